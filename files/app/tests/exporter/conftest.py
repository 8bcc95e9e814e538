from files.app.tests.fixtures.configuration import config_dir as config_dir
from files.app.tests.fixtures.journalctl import fake_journal as fake_journal
from files.app.tests.fixtures.systemd import fake_systemd as fake_systemd
from files.app.tests.fixtures.systemd import private_bus as private_bus
