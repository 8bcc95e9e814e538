from files.app.tests.fixtures.configuration import config_dir as config_dir
from files.app.tests.fixtures.configuration import rewrite as rewrite
