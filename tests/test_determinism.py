"""The same seed gives the same bytes, on any number of threads."""
import os, subprocess, sys
from dataclasses import replace
import numpy as np, pytest
from semdedup import embed, kmeans, load_images
from semdedup.core import digest
from semdedup.selections import Pool, choose
from threadpoolctl import threadpool_limits

RUN = [sys.executable, '-c', 'from semdedup.cli import main; main()', *'run --dataset digits --epochs 1 --ratio 40 --prune_type stratified --seed 3'.split()]

def manifest(folder, threads, omp):
    "The bytes of `selection.parquet` from a process with these numbers of threads."
    env = os.environ | {'SEMDEDUP_THREADS': threads, 'OMP_NUM_THREADS': omp}
    done = subprocess.run([*RUN, '--out', folder], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder/'selection.parquet').read_bytes()

@pytest.fixture(scope='module')
def on_one_thread(tmp_path_factory): return manifest(tmp_path_factory.mktemp('one')/'out', '1', '1')

@pytest.mark.parametrize('threads, omp', [('1', '2'), ('2', '1')])
def test_two_runs_give_the_same_bytes(tmp_path, on_one_thread, threads, omp):
    assert manifest(tmp_path/'out', threads, omp) == on_one_thread

@pytest.fixture(scope='module')
def images(): return load_images('fmnist-mini')

def on_threads(monkeypatch, compute, *numbers):
    "Digests of what `compute()` gives on so many threads."
    for n in numbers:
        monkeypatch.setenv('SEMDEDUP_THREADS', str(n))
        yield digest(*compute())

def test_embeddings_do_not_depend_on_threads(images, monkeypatch):
    "256 images are eight batches."
    compute = lambda: [embed(images.train.images[:256], 'efficientnet-lite0', cache=False)]
    assert len(set(on_threads(monkeypatch, compute, 1, 2, 1))) == 1

@pytest.mark.parametrize('spherical', [True, False], ids=['spherical', 'euclidean'])
def test_clusters_do_not_depend_on_threads(images, monkeypatch, spherical):
    "8,000 images are four blocks, summed up in their order."
    x = embed(images, 'pixels')
    def compute():
        groups = kmeans(x, 20, seed=1, spherical=spherical)
        return groups.labels, groups.centroids, groups.similarity
    assert len(set(on_threads(monkeypatch, compute, 1, 2, 3))) == 1

@pytest.mark.parametrize('name', ['ours', 'facility-location', 'd2'])
def test_selections_do_not_depend_on_threads(images, monkeypatch, name):
    "Neither on those of the package nor on those of BLAS, which principal directions are computed with."
    some = replace(images, train=images.train.take(np.arange(2000)))
    def compute(n):
        monkeypatch.setenv('SEMDEDUP_THREADS', str(n))
        with threadpool_limits(n): return choose(Pool(embed(some, 'pixels'), some.train.labels, some, 10, seed=1), name, .1, seed=1).keep
    assert len({digest(compute(n)) for n in (1, 2, 1)}) == 1

def test_another_seed_is_another_clustering(images):
    "So the tests above do not compare constants."
    x = embed(images.train.take(np.arange(500)), 'pixels')
    assert not np.array_equal(kmeans(x, 5, seed=1).labels, kmeans(x, 5, seed=2).labels)
