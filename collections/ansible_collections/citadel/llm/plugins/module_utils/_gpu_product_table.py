# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's products: compute capability, and the memory that each was sold with.

Sources: "CUDA GPU Compute Capability" and "Legacy CUDA GPU Compute Capability" (developer.nvidia.com)
for the capabilities, the product pages and data sheets of NVIDIA for the memory, and the PCI ID
Repository (pci-ids.ucw.cz) for the ranges of device numbers, which NVIDIA gives out chip by chip.
"""

from __future__ import annotations

from typing import Dict, Tuple

# Compute capability: the architecture, as nvidia-smi names it.
ARCHITECTURES: Dict[str, str] = {
    "2.0": "Fermi",
    "2.1": "Fermi",
    "3.0": "Kepler",
    "3.2": "Kepler",
    "3.5": "Kepler",
    "3.7": "Kepler",
    "5.0": "Maxwell",
    "5.2": "Maxwell",
    "5.3": "Maxwell",
    "6.0": "Pascal",
    "6.1": "Pascal",
    "6.2": "Pascal",
    "7.0": "Volta",
    "7.2": "Volta",
    "7.5": "Turing",
    "8.0": "Ampere",
    "8.6": "Ampere",
    "8.7": "Ampere",
    "8.9": "Ada Lovelace",
    "9.0": "Hopper",
    "10.0": "Blackwell",
    "10.3": "Blackwell",
    "10.7": "Rubin",
    "11.0": "Blackwell",
    "12.0": "Blackwell",
    "12.1": "Blackwell",
}

# First and last PCI device number of a chip, its compute capability. More particular ranges stand first.
DEVICE_RANGES: Tuple[Tuple[int, int, str], ...] = (
    (0x102D, 0x102D, "3.7"),  # GK210
    (0x06C0, 0x06DF, "2.0"),  # GF100
    (0x0DC0, 0x0DFF, "2.1"),  # GF106, GF108
    (0x0E22, 0x0E3B, "2.1"),  # GF104
    (0x0F00, 0x0F0F, "2.1"),  # GF108
    (0x0FC0, 0x0FFF, "3.0"),  # GK107
    (0x1001, 0x103F, "3.5"),  # GK110
    (0x1040, 0x107F, "2.1"),  # GF119
    (0x1080, 0x109F, "2.0"),  # GF110
    (0x1140, 0x117F, "2.1"),  # GF117
    (0x1180, 0x11FF, "3.0"),  # GK104, GK106
    (0x1200, 0x125F, "2.1"),  # GF114, GF116
    (0x1280, 0x12BF, "3.5"),  # GK208
    (0x1340, 0x13BF, "5.0"),  # GM108, GM107
    (0x13C0, 0x143F, "5.2"),  # GM204, GM206
    (0x15F0, 0x15FF, "6.0"),  # GP100
    (0x1600, 0x167F, "5.2"),  # GM204, mobile
    (0x1720, 0x172F, "6.0"),  # GP100
    (0x1740, 0x179F, "5.0"),  # GM108, GM107
    (0x17C0, 0x17FF, "5.2"),  # GM200
    (0x1B00, 0x1D5F, "6.1"),  # GP102, GP104, GP106, GP107, GP108
    (0x1D80, 0x1DFF, "7.0"),  # GV100
    (0x1E00, 0x1FFF, "7.5"),  # TU102, TU104, TU106, TU117
    (0x2080, 0x20FF, "8.0"),  # GA100
    (0x2180, 0x21FF, "7.5"),  # TU116
    (0x2200, 0x223F, "8.6"),  # GA102
    (0x2300, 0x23FF, "9.0"),  # GH100
    (0x2400, 0x25FF, "8.6"),  # GA103, GA104, GA106, GA107
    (0x2680, 0x28FF, "8.9"),  # AD102, AD103, AD104, AD106, AD107
    (0x2900, 0x29FF, "10.0"),  # GB100, GB102
    (0x2B00, 0x2B0F, "11.0"),  # GB10B
    (0x2B80, 0x2DFF, "12.0"),  # GB202, GB203, GB206, GB207
    (0x2E00, 0x2EFF, "12.1"),  # GB20B
    (0x2F00, 0x2FFF, "12.0"),  # GB205
    (0x3180, 0x31FF, "10.3"),  # GB110, GB112
)

# Compute capability: products with the GiB they were sold with, divided by "/"; "?" where that says nothing.
PRODUCTS: Dict[str, str] = {
    "12.1": "GB10=128",
    "12.0": """
        RTX PRO 6000 Blackwell=96; RTX PRO 6000 Blackwell Workstation=96; RTX PRO 6000 Blackwell
        Server=96; RTX PRO 6000 Blackwell Max-Q Workstation=96; RTX PRO 5000 Blackwell=48/72; RTX PRO
        4500 Blackwell=32; RTX PRO 4500 Blackwell Server=32; RTX PRO 4000 Blackwell=24; RTX PRO 4000
        Blackwell SFF=24; RTX PRO 2000 Blackwell=16; RTX PRO 5000 Blackwell Laptop=24; RTX PRO 4000
        Blackwell Laptop=16; RTX PRO 3000 Blackwell Laptop=12; RTX PRO 2000 Blackwell Laptop=8; RTX PRO
        1000 Blackwell Laptop=8; RTX PRO 500 Blackwell Laptop=6; RTX 5090=32; RTX 5090 D=32; RTX 5090 D
        v2=24; RTX 5080=16; RTX 5070 Ti=16; RTX 5070=12; RTX 5060 Ti=8/16; RTX 5060=8; RTX 5050=8/9; RTX
        5090 Laptop=24; RTX 5080 Laptop=16; RTX 5070 Ti Laptop=12; RTX 5070 Laptop=8/12; RTX 5060
        Laptop=8; RTX 5050 Laptop=8""",
    "11.0": "Thor=?; Jetson AGX Thor=?; Jetson T5000=?; Jetson T4000=?; Thor nvgpu=?",
    "10.3": "B300=288; B300 SXM6=288; GB300=288",
    "10.0": "B100=192; B200=180/192; GB200=186/192",
    "9.0": """
        H100=64/80/94/96; H100 NVL=94; H100 PCIe=80; H100 CNX=80; H200=141; H200 NVL=141; H800=80; H800
        NVL=94; H800 PCIe=80; H20=96/141; H20-3e=141; GH200=96/141/144; GH200 480GB=96/141/144; GH200
        120GB=96; GH200 144G HBM3e=144""",
    "8.9": """
        L40S=48; L40=48; L40G=24; L20=48; L4=24; L2=24; RTX 6000 Ada=48; RTX 5880 Ada=48; RTX 5000
        Ada=32; RTX 4500 Ada=24; RTX 4000 Ada=20; RTX 4000 SFF Ada=20; RTX 2000 Ada=16; RTX 5000 Ada
        Laptop=16; RTX 4000 Ada Laptop=12; RTX 3500 Ada Laptop=12; RTX 3000 Ada Laptop=8; RTX 2000 Ada
        Laptop=8; RTX 1000 Ada Laptop=6; RTX 500 Ada Laptop=4; RTX 4090=24; RTX 4090 D=24; RTX 4080
        SUPER=16; RTX 4080=16; RTX 4070 Ti SUPER=16; RTX 4070 Ti=12; RTX 4070 SUPER=12; RTX 4070=12; RTX
        4060 Ti=8/16; RTX 4060=8; RTX 4050=6; RTX 4090 Laptop=16; RTX 4080 Laptop=12; RTX 4070 Laptop=8;
        RTX 4060 Laptop=8; RTX 4050 Laptop=6""",
    "8.7": "Orin=?; Orin nvgpu=?; Jetson AGX Orin=?; Jetson Orin NX=?; Jetson Orin Nano=?",
    "8.6": """
        A40=48; A10=24; A10G=24; A10M=20; A16=16; A2=16; RTX A6000=48; RTX A5500=24; RTX A5000=24; RTX
        A4500=20; RTX A4000=16; RTX A4000H=16; RTX A2000=6/12; RTX A1000=8; RTX A400=4; RTX A5500
        Laptop=16; RTX A5000 Laptop=16; RTX A4500 Laptop=16; RTX A4000 Laptop=8; RTX A3000 Laptop=6/12;
        RTX A2000 Laptop=4/8; RTX A1000 Laptop=4/6; RTX A500 Laptop=4; RTX A2000 8GB Laptop=8; RTX A1000
        6GB Laptop=6; RTX A3000 12GB Laptop=12; RTX 3090 Ti=24; RTX 3090=24; RTX 3080 Ti=12/20; RTX
        3080=10/12; RTX 3070 Ti=8; RTX 3070=8; RTX 3060 Ti=8; RTX 3060=8/12; RTX 3050=6/8; RTX 3050
        OEM=8; RTX 3080 Ti Laptop=16; RTX 3080 Laptop=8/16; RTX 3070 Ti Laptop=8; RTX 3070 Laptop=8; RTX
        3060 Laptop=6; RTX 3050 Ti Laptop=4; RTX 3050 Laptop=4/6; RTX 3050 6GB Laptop=6; RTX 2050=4; RTX
        2050 Laptop=4; MX570=2/4; CMP 90HX=10; CMP 70HX=8; A10-PCIe=24; PG506=?""",
    "8.0": """
        A100=40/80; A100 PCIe=40/80; A100X=80; A800=40/80; A800 40GB Active=40; A30=24; A30X=24; CMP
        170HX=8/10; DRIVE-PG199-PROD=32""",
    "7.5": """
        T4=16; T4G=16; T40=24; T10=16; T1200 Laptop=4; T1000=4/8; T600=4; T600 Laptop=4; T550 Laptop=4;
        T500=2/4; T400=2/4; T1000 8GB=8; T400 4GB=4; Quadro RTX 8000=48; Quadro RTX 6000=24; Quadro RTX
        5000=16; Quadro RTX 4000=8; Quadro RTX 3000=6; Quadro T2000=4; Quadro T1000=4; Quadro T400=2;
        TITAN RTX=24; RTX 2080 Ti=11/12; RTX 2080 SUPER=8; RTX 2080=8; RTX 2070 SUPER=8; RTX 2070=8; RTX
        2060 SUPER=8; RTX 2060=6/12; GTX 1660 Ti=6; GTX 1660 SUPER=6; GTX 1660=6; GTX 1650 SUPER=4; GTX
        1650 Ti=4; GTX 1650=4; GTX 1630=4; MX450=2; MX550=2; CMP 50HX=10; CMP 40HX=8; CMP 30HX=6""",
    "7.2": "Xavier=?; Jetson AGX Xavier=?; Jetson Xavier NX=?",
    "7.0": """
        V100=16/32; V100S=32; PG503-216=32; TITAN V=12; TITAN V CEO=32; Quadro GV100=32; CMP 100HX=16""",
    "6.2": "Tegra X2=?; Jetson TX2=?",
    "6.1": """
        P40=24; P4=8; P6=16; P10=?; P102-100=5; P104-100=4/8; P106-100=6; P106-090=3; Quadro P6000=24;
        Quadro P5200=16; Quadro P5000=16; Quadro P4200=8; Quadro P4000=8; Quadro P3200=6; Quadro
        P3000=6; Quadro P2200=5; Quadro P2000=4/5; Quadro P1000=4; Quadro P620=2; Quadro P600=2/4;
        Quadro P500=2; Quadro P400=2; P620=2; P520=2; TITAN Xp=12; TITAN X Pascal=12; TITAN X=12; TITAN
        Xp COLLECTORS=12; GTX 1080 Ti=11; GTX 1080=8; GTX 1070 Ti=8; GTX 1070=8; GTX 1060=3/5/6; GTX
        1050 Ti=4; GTX 1050=2/3/4; GT 1030=2; GT 1010=2; MX150=2/4; MX230=2; MX250=2; MX330=2; MX350=2""",
    "6.0": "P100=12/16; Quadro GP100=16",
    "5.3": "Tegra X1=?; Jetson Nano=?",
    "5.2": """
        Quadro M5000M=8; Quadro M4000M=4; Quadro M3000M=4; M60=8; M40=12/24; M6=8; M4=4; Quadro
        M6000=12/24; Quadro M5500=8; Quadro M5000=8; Quadro M4000=8; Quadro M2200=4; Quadro M2000=4;
        Quadro M620=2; GTX TITAN X=12; GTX 980 Ti=6; GTX 980=4/8; GTX 970=4; GTX 960=2/4; GTX 950=2; GTX
        980M=4/8; GTX 970M=3/6; GTX 965M=2/4""",
    "5.0": """
        M10=8; Quadro K2200=4; Quadro K1200=4; Quadro K620=2; Quadro M1200=4; Quadro M2000M=4; Quadro
        M1000M=2/4; Quadro M600M=2; Quadro M500M=2; Quadro M520=1/2; NVS 810=2; GTX 750 Ti=2/4; GTX
        750=1/2/4; GTX 745=4; GTX 960M=2/4; GTX 950M=2/4; GTX 860M=2/4; GTX 850M=2/4; 940MX=1/2/4;
        940M=1/2/4; 930MX=2; 930M=1/2; 920MX=2; 845M=?; 840M=2; 830M=2; MX130=2; MX110=2; A1=?""",
    "3.7": "K80=12; GK210=12",
    "3.5": """
        K40m=12; K40c=12; K40t=12; K40s=12; K40=12; K20=5; K20c=5; K20m=5; K20s=5; K20X=6; K20Xm=6;
        K20Xc=6; Quadro K6000=12; Quadro K5200=8; GTX TITAN Z=6; GTX TITAN Black=6; GTX TITAN=6; GTX 780
        Ti=3; GTX 780=3/6; GT 640 GDDR5=1; GT 730=1/2/4; GT 720=1/2; GT 710=1/2; GT 630 Rev. 2=?; GT
        740M=2; 920M=1/2""",
    "3.0": """
        K10=4; K10.G2.8GB=4; GRID K1=4; GRID K2=4; GRID K520=4; GRID K340=1; GRID K260Q=2; GRID K280Q=4;
        Quadro K5000=4; Quadro K4200=4; Quadro K4000=3; Quadro K2000=2; Quadro K2000D=2; Quadro K600=1;
        Quadro K420=1/2; Quadro 410=0.5; GTX 770=2/4; GTX 760=1.5/2/3/4; GTX 690=2; GTX 680=2/4; GTX
        670=2/4; GTX 660 Ti=2/3; GTX 660=1.5/2/3; GTX 650 Ti BOOST=1/2; GTX 650 Ti=1/2; GTX 650=1/2; GT
        740=1/2/4; GT 640=1/2/4; GTX 880M=4/8; GTX 870M=3/6; GTX 780M=4""",
    "2.1": """
        Quadro 2000=1; Quadro 600=1; GTX 560 Ti=1/2; GTX 550 Ti=1; GT 440=?; GT 430=?; NVS 315=1; NVS
        310=?""",
    "2.0": """
        C2050=3; C2070=6; C2075=6; M2050=3; M2070=6; M2075=6; M2090=6; Quadro 6000=6; Quadro 5000=2.5;
        Quadro 4000=2; GTX 580=1.5/3; GTX 480=1.5""",
}

# What a name tells when the product is not in the table: GeForce and workstation series.
SERIES: Tuple[Tuple[str, str], ...] = (
    (r"^rtx 50[0-9]0\b", "12.0"),
    (r"rtx pro \d+ blackwell", "12.0"),
    (r"^rtx 40[0-9]0\b", "8.9"),
    (r"rtx \d+ (?:\w+ )?ada\b", "8.9"),
    (r"^rtx a\d+", "8.6"),
    (r"^rtx 30[0-9]0\b", "8.6"),
    (r"quadro (?:rtx|t)\b ?\d+", "7.5"),
    (r"^rtx 20[6-8]0\b", "7.5"),
    (r"gtx 16[0-9]0\b", "7.5"),
    (r"quadro p\d{3,4}", "6.1"),
    (r"gtx? 10[0-9]0\b", "6.1"),
)
