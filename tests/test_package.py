"""What pip installs: made from what git knows, and complete."""
import email, importlib.util, os, re, shutil, subprocess, sys, zipfile
from configparser import ConfigParser
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import semdedup

ROOT = Path(__file__).parents[1]

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "A wheel, built from a copy of the files that git tracks, in an environment that pip makes for it."
    if not shutil.which('git') or not (ROOT/'.git').exists(): pytest.skip('not a git checkout')
    if not importlib.util.find_spec('pip'): pytest.skip('this Python has no pip')
    copy, dist = tmp_path_factory.mktemp('source')/'semdedup', tmp_path_factory.mktemp('dist')
    for name in subprocess.check_output(['git', 'ls-files', '-z'], cwd=ROOT, text=True).split('\0'):
        if name and (ROOT/name).is_file():
            (copy/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/name, copy/name)
    done = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--disable-pip-version-check', '--no-deps', '-w', dist, copy],
                          capture_output=True, text=True)
    if done.returncode and re.search('No matching distribution found for setuptools|ConnectionError|Failed to establish a new connection', done.stderr):
        pytest.skip('pip cannot reach PyPI to get setuptools')
    assert done.returncode == 0, done.stderr
    [file] = dist.iterdir()
    return file

@pytest.fixture(scope='module')
def names(wheel): return zipfile.ZipFile(wheel).namelist()

@pytest.fixture(scope='module')
def metadata(wheel, names):
    [name] = [n for n in names if n.endswith('.dist-info/METADATA')]
    return email.message_from_bytes(zipfile.ZipFile(wheel).read(name))

@pytest.fixture(scope='module')
def settings():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']

def test_it_is_complete(names):
    "All modules, the experiments, the data with its notice, and the template; no tests."
    expected = ([f'semdedup/{p.name}' for p in (ROOT/'semdedup').glob('*.py')]
                + [f'semdedup/experiments/{p.name}' for p in (ROOT/'nbs'/'experiments').glob('*.ipynb')])
    expected += ['semdedup/data/fmnist-mini.npz.xz', 'semdedup/data/NOTICE.md', 'semdedup/templates/page.html.j2']
    assert len(expected) > 15 and set(expected) - set(names) == set()
    assert [n for n in names if not n.startswith(('semdedup/', 'semdedup-')) or '__pycache__' in n] == []

def test_it_is_small(wheel): assert wheel.stat().st_size < 6e6

def test_it_has_a_licence_and_says_what_it_needs(metadata, names, settings):
    assert (metadata['License-Expression'] or metadata['License']) == 'MIT' and [n for n in names if n.endswith('LICENSE')]
    assert (metadata['Name'], metadata['Version'], metadata['Requires-Python']) == ('semdedup', settings['version'], f'>={settings["min_python"]}')
    needed = {str(Requirement(r)) for r in metadata.get_all('Requires-Dist') if 'extra' not in r}
    assert needed == {str(Requirement(r)) for r in settings['requirements'].split()}
    assert not {'nbdev', 'fastcore', 'pytest'} & {Requirement(r).name for r in needed}

def test_extras_are_those_of_settings(metadata, settings):
    assert set(metadata.get_all('Provides-Extra')) == {k.removesuffix('_requirements') for k in settings if k.endswith('_requirements')}

def test_one_version_everywhere(settings):
    assert semdedup.__version__ == settings['version']
    assert f"\nversion: {settings['version']}\n" in (ROOT/'CITATION.cff').read_text(encoding='utf-8')

def test_ci_installs_what_settings_allow(settings):
    "Each requirement has a pin that it allows, for every Python. If not: the command at the top of the file makes it again."
    pins = [Requirement(line) for line in (ROOT/'.github'/'constraints.txt').read_text(encoding='utf-8').splitlines()
            if line and not line.lstrip().startswith('#')]
    for wanted in map(Requirement, f"{settings['requirements']} {settings['dev_requirements']}".split()):
        mine = [p for p in pins if canonicalize_name(p.name) == canonicalize_name(wanted.name)]
        assert mine and all(wanted.specifier.contains(str(p.specifier).removeprefix('==')) for p in mine), wanted

CODE = """
import semdedup
from semdedup import reports
images = semdedup.load_images()
print(semdedup.__file__, reports.experiments_folder(), images, sep='\\n')
"""

def test_it_works_from_where_it_is_put(wheel, tmp_path):
    "Without the checkout: another folder, another working directory."
    home, elsewhere = tmp_path/'home', tmp_path/'elsewhere'
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(home)
    done = subprocess.run([sys.executable, '-c', CODE], cwd=elsewhere, env=os.environ | {'PYTHONPATH': str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, experiments, images = done.stdout.splitlines()
    assert Path(file) == home/'semdedup'/'__init__.py' and Path(experiments) == home/'semdedup'/'experiments'
    assert images == "Images('fmnist-mini': 8,000 train + 2,000 test, 1×28×28, 10 classes)"
