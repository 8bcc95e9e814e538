from files.app.tests.fixtures.configuration import config_dir as config_dir
from files.app.tests.fixtures.configuration import rewrite as rewrite
from files.app.tests.fixtures.engine import fake_engine as fake_engine
