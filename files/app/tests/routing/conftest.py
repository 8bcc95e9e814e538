from files.app.tests.fixtures.configuration import config_dir as config_dir
from files.app.tests.fixtures.configuration import rewrite as rewrite
from files.app.tests.gateway.conftest import engine as engine
from files.app.tests.gateway.conftest import make_engine as make_engine
