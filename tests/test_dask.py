"""The engine on a Dask cluster of two processes: the same to the bit as in this one, and nothing is lost when a worker dies."""
import os, signal, threading, time
import numpy as np, pandas as pd, pytest
from semdedup.clustering import kmeans
from semdedup.pruning import deduplicate

distributed = pytest.importorskip('distributed', reason='dask is not installed: pip install "semdedup[dask]"')

@pytest.fixture(scope='module')
def client():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=':0') as cluster:
        with distributed.Client(cluster) as client: yield client

@pytest.fixture(scope='module')
def shards(tmp_path_factory):
    "A folder of three shards: 30,000 rows in clouds, the last fifth changed copies of others."
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp('shards')
    x = rng.standard_normal((60, 24))[rng.integers(0, 60, 24_000)] + .6 * rng.standard_normal((24_000, 24))
    x = np.concatenate([x, x[rng.integers(0, 24_000, 6_000)] + .1 * rng.standard_normal((6_000, 24))]).astype(np.float32)
    for i, part in enumerate(np.split(x, [7_000, 7_001])): np.save(folder/f'part-{i}.npy', part)
    return folder

def test_kmeans_is_the_same_to_the_bit(client, shards):
    here, there = [kmeans(shards, 40, progressive=True, client=c) for c in (None, client)]
    assert np.array_equal(here.labels, there.labels) and np.array_equal(here.centroids, there.centroids) and np.array_equal(here.similarity, there.similarity)
    assert here.config == there.config

@pytest.mark.parametrize('settings', [dict(), dict(rule='semdedup'), dict(probes=3), dict(exact=True, eps=.01), dict(target=20_000)], ids=str)
def test_deduplicate_is_the_same_to_the_bit(client, shards, settings):
    here, there = [deduplicate(shards, client=c, **settings) for c in (None, client)]
    assert 0 < len(here.removed)
    pd.testing.assert_frame_equal(here.table, there.table)
    assert here.hash == there.hash

def test_arrays_in_memory_are_sent_to_the_workers(client):
    x = np.random.default_rng(0).standard_normal((2_000, 8)).astype(np.float32)
    pd.testing.assert_frame_equal(deduplicate(x, eps=.1, client=client).table, deduplicate(x, eps=.1).table)

def test_a_file_that_is_not_there_is_said_by_name(client, tmp_path):
    with pytest.raises(ValueError, match='no such file'): deduplicate(tmp_path/'none.npy', client=client)

def test_a_worker_that_dies_in_the_middle_loses_nothing(shards):
    "One of two workers is killed, as the system kills whoever takes too much memory, while tiles are being computed."
    want = deduplicate(shards, eps=.2, n_clusters=6)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=':0') as cluster, distributed.Client(cluster) as client:
        pids, killed = client.run(os.getpid), []
        def kill_when_busy():
            while not killed:
                busy = [address for address, tasks in client.processing().items() if tasks]
                if busy: os.kill(pids[busy[0]], signal.SIGKILL); killed.append(busy[0])
                time.sleep(.01)
        watcher = threading.Thread(target=kill_when_busy, daemon=True)
        from semdedup import pruning
        compare = pruning.compare
        def compare_and_kill(*args): watcher.start(); return compare(*args)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pruning, 'compare', compare_and_kill)
            found = deduplicate(shards, eps=.2, n_clusters=6, client=client)
        assert killed
    pd.testing.assert_frame_equal(found.table, want.table)
