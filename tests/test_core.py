"""Values that are checked, names by content, and work that is sent elsewhere: in bundles, in order, with what is large sent once."""
import copy
import numpy as np, pytest, torch
from semdedup.core import (ONE_THREAD, DaskWorkers, UserError, alone, atomic_write, check_range, digest, from_json, parse_bytes, workers_on,
                           write_json, write_text)

class Large:
    "Something that is worth sending once."
    shareable = True

class Task:
    def __init__(self, client, work): self.client, self.work = client, work
    def result(self): self.client.waiting -= 1; return self.work()

class Client:
    "Of a cluster of two workers, which does what it is told when it is asked for it."
    def __init__(self): self.scattered, self.bundles, self.waiting, self.most = [], [], 0, 0
    def scheduler_info(self): return dict(workers=dict.fromkeys('ab'))
    def scatter(self, value, **how): self.scattered.append(value); return 'sent', value
    def submit(self, fn, do, some, *shared, pure):
        self.bundles.append(some); self.waiting += 1; self.most = max(self.most, self.waiting)
        return Task(self, lambda: fn(do, some, *(s[1] if isinstance(s, tuple) else s for s in shared)))

@pytest.mark.parametrize('n, bundle', [(0, 1), (1, 3), (23, 1), (23, 4), (24, 4)])
def test_the_order_is_that_of_the_blocks(n, bundle):
    client, large = Client(), Large()
    with workers_on(client) as w:
        assert isinstance(w, DaskWorkers) and w.n_workers == 2
        for _ in range(2):
            assert list(w.map(lambda block, l, power: (block ** power, l is large), range(n), large, 3, bundle=bundle)) == [(i ** 3, True) for i in range(n)]
        assert (client.scattered == [large] and [i for b in client.bundles for i in b] == [*range(n)] * 2
                and max(map(len, client.bundles), default=bundle) <= bundle)
        assert client.most <= 8 and client.waiting == 0                # of a long list little is under way
    with workers_on(client) as w: list(w.map(lambda block, l: block, [1], large))
    assert client.scattered == [large, large]

def test_torch_gets_its_threads_back():
    "Also if the work fails."
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert alone(lambda block, y: (block + y, torch.get_num_threads()), [1, 2], 10) == [(11, 1), (12, 1)] and torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError): alone(lambda block: 1 // block, [1, 0])
        assert torch.get_num_threads() == 2
    finally: torch.set_num_threads(before)

@pytest.mark.parametrize('value', [float('inf'), np.float32('inf'), float('nan'), 2.5, True, '3', None])
def test_what_is_no_whole_number_is_refused_in_a_sentence(value):
    with np.errstate(invalid='ignore'), pytest.raises(UserError, match='n is .*; it must be a whole number of at least 1'):
        check_range('n', value, 1, whole=True)
    assert check_range('n', 10**400, 1, whole=True) == 10**400 and check_range('n', np.float64(3), 1, whole=True) == 3

def test_an_array_of_objects_is_named_by_its_content():
    "Not by the addresses of the objects, which change from run to run."
    names = np.array([f'{n}.png' for n in range(3)] + [None], object)
    again = np.array([f'{n}.png' for n in range(3)] + [None], object)
    assert digest(names) == digest(again) == digest(copy.deepcopy(names)) != digest(names[::-1])

def test_whoever_is_inside_twice_stays_at_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ONE_THREAD:
            with ONE_THREAD: assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally: torch.set_num_threads(before)

def test_a_failed_read_is_not_called_a_failed_write(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path/'a'): (tmp_path/'nowhere'/'x').read_bytes()
    (tmp_path/'file').write_text('a file')
    with pytest.raises(UserError, match='Cannot write'): write_text(tmp_path/'file'/'below'/'a', 'x')
    assert not (tmp_path/'a').exists()

def test_no_memory_is_refused_in_any_unit():
    for size in 0, '0', '0GB', '0.0 kB':
        with pytest.raises(UserError, match='memory is'): parse_bytes(size)

def test_files_are_written_whole(tmp_path):
    write_json(tmp_path/'a.json', {'a': 'ä'}, indent=1)
    assert from_json((tmp_path/'a.json').read_bytes()) == {'a': 'ä'} and [p.name for p in tmp_path.iterdir()] == ['a.json']
    with pytest.raises(TypeError): write_json(tmp_path/'a.json', {'a': object()})
    assert from_json((tmp_path/'a.json').read_bytes()) == {'a': 'ä'}
