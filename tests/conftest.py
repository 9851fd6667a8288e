"""What every test can ask for."""
import os
from pathlib import Path
import pytest

@pytest.fixture(scope='session', autouse=True)
def own_cache(tmp_path_factory):
    "No test reads or writes the user's cache."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SEMDEDUP_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield

@pytest.fixture(scope='session')
def data_root():
    "The folder with the full data sets; tests that ask for it are skipped where there is none."
    root = os.environ.get('SEMDEDUP_DATA')
    if not root: pytest.skip('SEMDEDUP_DATA is not set: no full data sets')
    if not Path(root).is_dir(): pytest.fail(f'SEMDEDUP_DATA is {root!r}, and there is no such folder')
    return Path(root)
