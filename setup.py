"""Packaging: everything is said in settings.ini, which nbdev reads too."""
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
# On PyPI there is no repository around the README: its links and pictures lead to that of `branch`.
to_repository = lambda text: re.sub(
    r'(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)',
    lambda m: f'{m[1]}{m[2]}({cfg["git_url"]}/{"raw" if m[1] else "blob"}/{cfg["branch"]}/{m[3]}', text)
minor = int(cfg['min_python'].split('.')[1])
stage = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable'][int(cfg['status']) - 1]

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='MIT',
    classifiers=[f'Development Status :: {stage}', f'Intended Audience :: {cfg["audience"]}', 'Intended Audience :: Science/Research',
                 f'Natural Language :: {cfg["language"]}', 'Topic :: Scientific/Engineering :: Image Recognition',
                 *[f'Programming Language :: Python :: 3.{v}' for v in range(minor, 14)]],
    # The experiment notebooks travel in the wheel, so that reports can be made outside of a checkout.
    packages=['semdedup', 'semdedup.experiments', 'semdedup.data', 'semdedup.templates'],
    package_dir={'semdedup.experiments': 'nbs/experiments'},
    package_data={'semdedup': ['py.typed'], 'semdedup.experiments': ['*.ipynb'], 'semdedup.data': ['*'], 'semdedup.templates': ['*']},
    python_requires=f'>={cfg["min_python"]}', install_requires=cfg['requirements'].split(),
    extras_require={extra: cfg[f'{extra}_requirements'].split() for extra in ('dev', 'dask', 'faiss', 'hf', 'timm', 'bench')},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f'{cfg["lib_name"]}={cfg["lib_path"]}._modidx:d']},
    long_description=to_repository((here / 'README.md').read_text(encoding='utf-8')) if (here / 'README.md').exists() else '',
    long_description_content_type='text/markdown', zip_safe=False)
