"""cuda and mps give what the processor gives: half precision screens, float64 decides. Skipped, visibly, where there is none."""
import numpy as np, pandas as pd, pytest, torch
from semdedup.clustering import kmeans
from semdedup.pruning import deduplicate

HERE = {'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available(), 'cpu:0': True} # cpu:0 takes the same path, on torch's CPU

@pytest.fixture(params=list(HERE))
def device(request):
    if not HERE[request.param]: pytest.skip(f'no {request.param} on this machine')
    return request.param

@pytest.mark.parametrize('settings', [dict(), dict(rule='semdedup'), dict(probes=3), dict(exact=True), dict(memory='70kB')], ids=str)
def test_the_same_duplicates_on_each_device(device, settings):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_500, 32)).astype(np.float32)
    x = np.concatenate([x, x[:500] + .1 * rng.standard_normal((500, 32)).astype(np.float32)])
    groups = kmeans(x, 8)
    here, there = [deduplicate(x, eps=.01, groups=groups, device=d, **settings) for d in ('cpu', device)]
    assert len(here.removed) > 100
    pd.testing.assert_frame_equal(here.table, there.table)

def test_kmeans_on_each_device_is_as_good(device):
    x = np.random.default_rng(0).standard_normal((2_000, 16)).astype(np.float32)
    here, there = [kmeans(x, 10, device=d).similarity.mean() for d in ('cpu', device)]
    assert there > here - .005
