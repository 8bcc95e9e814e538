/* A library that shows two GPUs: as much of NVML as nvitop-exporter asks for. Every value is made up.
   While /srv/hot is there, the second one is too hot. */
#include <stdio.h>
#include <unistd.h>

typedef struct { unsigned index; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned gpu, memory; } utilization;

static device devices[2] = {{0}, {1}};

int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int result) { return result ? "error" : "success"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) { return snprintf(text, size, "580.65.06") < 0; }
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { return snprintf(text, size, "13.580.65.06") < 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }

int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index > 1)
        return 2;
    *handle = &devices[index];
    return 0;
}
int nvmlDeviceGetIndex(device *handle, unsigned *index) { *index = handle->index; return 0; }
int nvmlDeviceGetName(device *handle, char *text, unsigned size) {
    (void)handle;
    return snprintf(text, size, "NVIDIA GeForce RTX 5060 Ti") < 0;
}
int nvmlDeviceGetUUID(device *handle, char *text, unsigned size) {
    return snprintf(text, size, "GPU-11111111-2222-3333-4444-00000000000%u", handle->index) < 0;
}
int nvmlDeviceGetMemoryInfo(device *handle, memory *found) {
    (void)handle;
    *found = (memory){17103323136ULL, 4294967296ULL, 12808355840ULL};
    return 0;
}
int nvmlDeviceGetUtilizationRates(device *handle, utilization *found) {
    (void)handle;
    *found = (utilization){72, 40};
    return 0;
}
int nvmlDeviceGetTemperature(device *handle, int sensor, unsigned *celsius) {
    (void)sensor;
    *celsius = handle->index == 1 && access("/srv/hot", F_OK) == 0 ? 93 : 61 + handle->index;
    return 0;
}
int nvmlDeviceGetPowerUsage(device *handle, unsigned *milliwatts) { (void)handle; *milliwatts = 121000; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(device *handle, unsigned *milliwatts) { (void)handle; *milliwatts = 180000; return 0; }
int nvmlDeviceGetPowerManagementLimit(device *handle, unsigned *milliwatts) { (void)handle; *milliwatts = 180000; return 0; }
