"""What is attacked, and exposures and an archive for it, the same ones that other tests use."""

from tests.archive.fixtures import archive, empty_archive, recipe, recipe_file  # noqa: F401
from tests.attack.targets import bench, build, clean, fetch, folder, publish, pull, train, update  # noqa: F401
from tests.dataset.conftest import exposures, shared_folder  # noqa: F401
from tests.publishing.conftest import release  # noqa: F401
