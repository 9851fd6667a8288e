"""One pass over images: interrupted, killed, resumed, on any number of processes: the same table."""
import io, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from semdedup import UserError, open_photos, scan
from semdedup.scanning import Decoders, Store, Thumbnails, look_at_image, same_pixels, serve

class Means:
    "An encoder that counts the images that it is given, and may be slow."
    name, config, size = 'means', {'encoder': 'means'}, 8
    def __init__(self, pause=0): self.n, self.pause = 0, pause
    def __call__(self, images):
        self.n += 1; time.sleep(self.pause)
        return images.reshape(len(images), 3, 4, 2, 4, 2).mean((3, 5)).reshape(len(images), -1).astype(np.float32) + 1

def write(folder, n, broken=()):
    "Pictures, some of them broken."
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)).resize((40, 30)).save(folder/f'{i:04d}.{["png", "jpg", "bmp"][i % 3]}')
    for i in broken:
        file = next(folder.glob(f'{i:04d}.*')); file.write_bytes(file.read_bytes()[:-200])
    return folder

def assert_same(a, b):
    pd.testing.assert_frame_equal(a.table, b.table)
    np.testing.assert_array_equal(a.x, b.x)
    assert list(a.thumbnails) == list(b.thumbnails)

@pytest.fixture(scope='module')
def pictures(tmp_path_factory): return write(tmp_path_factory.mktemp('pictures'), 150, broken=[3, 77])

@pytest.fixture(scope='module')
def once(pictures): return scan(pictures, Means(), cache=False, n_workers=1)

def test_the_result(pictures, once):
    assert list(once.table) == ['index', 'id', 'label', 'width', 'height', 'bytes', 'colours', 'sharpness', 'bytes_digest', 'pixels_digest', 'problem']
    assert list(once.table.index[once.table.problem != '']) == [3, 77] and set(once.table.problem[[3, 77]]) == {'the file is truncated'}
    assert once.x.shape == (148, 48) and once.x.dtype == np.float32 and list(once.rows) == [i for i in range(150) if i not in (3, 77)]
    np.testing.assert_allclose(np.linalg.norm(once.x, axis=1), 1, rtol=1e-6)
    sound = once.table[once.table.problem == '']
    assert set(sound.width) == {40} and set(sound.height) == {30} and sound.sharpness.isna().all() and sound.bytes_digest.is_unique
    assert isinstance(once.thumbnails, Thumbnails) and once.thumbnails[3] == b'' and Image.open(io.BytesIO(once.thumbnails[0])).size == (40, 30)
    assert (once.table.bytes == [os.path.getsize(pictures/i) for i in once.table.id]).all()

@pytest.mark.parametrize('n', [0, 1, 2, 5])
def test_any_number_of_processes(pictures, once, n): assert_same(scan(pictures, Means(), cache=False, n_workers=n), once)

@pytest.mark.parametrize('threads', [1, 3])
def test_a_network_gives_the_same_bytes(pictures, monkeypatch, threads, tmp_path):
    "Also if it goes on in the middle."
    whole = scan(pictures, 'efficientnet-lite0', size=32, device='cpu', cache=False, n_workers=2)
    monkeypatch.setenv('SEMDEDUP_THREADS', str(threads))
    assert_same(scan(pictures, 'efficientnet-lite0', size=32, device='cpu', cache=tmp_path, n_workers=threads), whole)

def test_a_rerun_reads_nothing(pictures, once, tmp_path, monkeypatch):
    first, again = Means(), Means()
    assert_same(scan(pictures, first, cache=tmp_path), once)
    monkeypatch.setattr('semdedup.scanning.upright', None)             # forked workers would fail
    result = scan(pictures, again, cache=tmp_path)
    assert first.n > 0 == again.n and list(result.table.problem[[3, 77]]) == ['TypeError while it was read'] * 2
    monkeypatch.undo()
    assert_same(scan(pictures, again, cache=tmp_path), once)

def test_what_changes_is_looked_at_again(tmp_path):
    folder, cache = write(tmp_path/'photos', 70), tmp_path/'cache'
    def looked_at():
        fresh, enc = scan(folder, Means(), cache=False), Means()
        assert_same(scan(folder, enc, cache=cache), fresh)
        return enc.n
    assert looked_at() == 3 and looked_at() == 0
    write(tmp_path/'more', 80); (tmp_path/'more'/'0075.png').rename(folder/'0000 new.png'); assert looked_at() == 1
    os.replace(folder/'0005.bmp', folder/'0001.jpg'); assert looked_at() == 1             # other content under a known name
    (folder/'0007.jpg').unlink(); assert looked_at() == 0
    (folder/'0009.png').write_bytes(b''); assert looked_at() == 0                         # nothing in it for the encoder
    Image.new('RGB', (9, 9), 'red').save(folder/'0009.png'); assert looked_at() == 1      # mended

def test_another_encoder_size_or_limit_is_another_scan(pictures, tmp_path, monkeypatch):
    for n, kwargs in enumerate([dict(encoder='pixels'), dict(encoder='pixels', size=9), dict(encoder=Means())]):
        scan(pictures, cache=tmp_path, **kwargs)
        assert len(list(tmp_path.iterdir())) == n + 1
    monkeypatch.setenv('SEMDEDUP_MAX_PIXELS', '1199')
    with pytest.raises(UserError, match='None of the 150 images.* 40 × 30 pixels are more than the limit of 1,199'): scan(pictures, Means(), cache=tmp_path)

def test_a_damaged_piece_is_looked_at_again(pictures, once, tmp_path):
    scan(pictures, Means(), cache=tmp_path)
    [piece] = tmp_path.glob('*/*.arrow')
    for damage in piece.read_bytes()[:-100], b'', bytes([1]) + piece.read_bytes()[1:]:
        piece.write_bytes(damage)
        with pytest.warns(UserWarning, match='damaged'): assert_same(scan(pictures, Means(), cache=tmp_path), once)

def test_a_cache_that_cannot_be_written_is_named(pictures, tmp_path):
    (tmp_path/'file').touch()
    with pytest.raises(UserError, match='Cannot write .*file.*choose another folder'): scan(pictures, Means(), cache=tmp_path/'file')

# Interruptions

RUN = """
import signal, sys; sys.path[:0] = [{tests!r}]
signal.signal(signal.SIGINT, signal.default_int_handler) # a shell that runs the tests in the background has it ignored
import semdedup.scanning as s
from test_scanning import Means
s.PIECE = s.SECONDS = {seconds}
import os; print(os.getpid(), flush=True)
try: s.scan({folder!r}, Means({pause}), cache={cache!r}, n_workers=2)
except KeyboardInterrupt: print('interrupted'); sys.exit(130)
print('done')
"""

def start(pictures, cache, pause=.25, seconds=0):
    code = RUN.format(tests=str(Path(__file__).parent), folder=str(pictures), cache=str(cache), pause=pause, seconds=seconds)
    return subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

def pieces(cache): return len(list(cache.glob('*/*.arrow')))

def wait_until(true, seconds=60):
    end = time.time() + seconds
    while not true() and time.time() < end: time.sleep(.02)
    assert true()

def children(pid):
    import psutil
    try: return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess: return []

@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_killed_and_resumed(pictures, once, tmp_path):
    "kill -9 after each of the first pieces: nobody is left behind, and what was written is not looked at again."
    for n in 1, 2, 3:
        process = start(pictures, tmp_path)
        wait_until(lambda: pieces(tmp_path) >= n)
        workers = children(process.pid)
        process.kill(); process.wait()
        wait_until(lambda: not any(w.is_running() and w.status() != 'zombie' for w in workers), 10)
    assert pieces(tmp_path) < 5                                        # it was not yet through
    done, rest = pieces(tmp_path), Means()
    assert_same(scan(pictures, rest, cache=tmp_path), once)
    assert 0 < rest.n <= 5 - done

@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_ctrl_c(pictures, once, tmp_path):
    "It stops at once, all its processes with it, and keeps what it has."
    process = start(pictures, tmp_path, pause=1, seconds=1e9)
    wait_until(lambda: len(children(process.pid)) >= 2); time.sleep(1.5) # two batches of five are through
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)                              # as a terminal does: to all of them
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and 'interrupted' in out and 'Traceback' not in err, err
    assert not any(w.is_running() and w.status() != 'zombie' for w in workers)
    assert pieces(tmp_path) == 1
    assert_same(scan(pictures, Means(), cache=tmp_path), once)

class Deadly:
    "A data set one of whose images kills the process that reads it; another one kills it once."
    def __init__(self, arrays, deadly, once): self.arrays, self.deadly, self.once = arrays, deadly, once
    def __len__(self): return len(self.arrays)
    def __getitem__(self, i):
        if i in self.deadly: os.kill(os.getpid(), signal.SIGKILL)
        if i == 40 and not self.once.exists(): self.once.touch(); os._exit(1)
        return self.arrays[i]

@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_an_image_that_kills_its_process_is_found(tmp_path):
    arrays = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3)).astype(np.uint8)
    result = scan(Deadly(arrays, (7, 70), tmp_path/'once'), Means(), n_workers=2)
    assert list(np.flatnonzero(result.table.problem)) == [7, 70] and 'died, three times' in result.table.problem[7]
    fine = np.delete(np.arange(100), [7, 70])
    np.testing.assert_array_equal(result.x, scan(arrays, Means(), cache=False).x[fine])

@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_workers_that_somebody_kills(pictures, once, tmp_path):
    process, killed = start(pictures, tmp_path, pause=1), 0            # five batches on two threads: three seconds
    while process.poll() is None and killed < 3:
        for w in children(process.pid)[:1]: w.kill(); killed += 1
        time.sleep(.3)
    assert killed
    out, err = process.communicate(timeout=60)
    assert 'done' in out, err
    assert_same(scan(pictures, Means(), cache=tmp_path), once)

SPAWN = """
import multiprocessing, sys
if __name__ == '__main__':
    multiprocessing.set_start_method('spawn')
    from semdedup.photos import open_photos
    from semdedup.scanning import Decoders, scan
    import numpy as np
    with Decoders(open_photos({folder!r}), 8, 2) as d:
        heavy = [len(b.rows) for b in d.map([np.arange(40), np.arange(40, 150)])]
        print(heavy)
"""

def test_processes_that_are_started_afresh(pictures, tmp_path):
    (tmp_path/'run.py').write_text(SPAWN.format(folder=str(pictures)))
    done = subprocess.run([sys.executable, tmp_path/'run.py'], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, '[40, 110]\n'), done.stderr

def test_where_no_process_can_be_started_this_one_works(tmp_path):
    "A script without the line about main, where processes are started afresh: each of them would run the script again."
    (tmp_path/'run.py').write_text(
        "import multiprocessing; multiprocessing.set_start_method('spawn')\n"
        "import numpy as np\nfrom semdedup.photos import open_photos\nfrom semdedup.scanning import Decoders\n"
        "with Decoders(open_photos('digits:test'), 8, 2) as d: print([len(b.images) for b in d.map(np.array_split(np.arange(360), 12))])\n")
    done = subprocess.run([sys.executable, tmp_path/'run.py'], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f'{[30] * 12}\n') and 'the images are decoded in this one' in done.stderr, done.stderr

def test_workers_import_little():
    code = "import sys, semdedup.scanning; print(*{'torch', 'torchvision', 'pandas', 'pyarrow', 'sklearn'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ''), done.stderr

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='forked on Linux only')
def test_a_script_without_main_and_a_class_of_its_own(tmp_path):
    (tmp_path/'run.py').write_text("import numpy as np\nfrom semdedup import scan\n"
                                   "class Own:\n    def __len__(self): return 40\n    def __getitem__(self, i): return np.full((8, 8), i, np.uint8)\n"
                                   "print(scan(Own(), lambda b: b.mean((2, 3)) + 1, size=8).x.shape)\n")
    done = subprocess.run([sys.executable, tmp_path/'run.py'], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, '(40, 3)\n'), done.stderr

@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='forked on Linux only')
def test_a_worker_that_nobody_wants_any_more_ends_by_itself(pictures):
    "It looks at what it is given, and leaves without an error when the other end of its pipe is closed."
    photos, fork = open_photos(pictures), multiprocessing.get_context('fork')
    mine, its = fork.Pipe()
    def work(): mine.close(); serve(its, photos, 8, False, os.getppid())      # else it would hold the other end itself
    process = fork.Process(target=work); process.start(); its.close()
    assert mine.recv() == 'ready'
    mine.send(np.arange(2, 5)); block = mine.recv()
    assert block.rows.tolist() == [2, 3, 4] and [s.problem for s in block.seen] == ['', 'the file is truncated', ''] and block.images.shape == (2, 3, 8, 8)
    mine.close(); process.join(30)
    assert process.exitcode == 0

def test_work_for_a_worker_that_has_died_is_missed_when_its_answer_is_wanted(pictures):
    w = Decoders(open_photos(pictures), 8, 1).worker()
    assert w.answer() is None and w.ready
    w.process.kill(); w.process.join()
    w.send(0, np.arange(3)); w.send(1, np.arange(3, 6))
    assert [number for number, _ in w.tasks] == [0, 1]
    with pytest.raises((EOFError, OSError)): w.answer()
    w.stop()

def test_what_a_killed_run_was_writing_goes_after_an_hour(tmp_path):
    "Not before: another process may be writing it."
    for name, age in ('.old.tmp', 3700), ('.new.tmp', 10): (tmp_path/name).touch(); os.utime(tmp_path/name, (time.time() - age,) * 2)
    assert Store(tmp_path).read() is None and [p.name for p in tmp_path.iterdir()] == ['.new.tmp']

# Encoders

def test_sizes(pictures, monkeypatch):
    "A name, a network, an encoder and a function are given images of the size that was asked for, or of their own."
    import torch
    sides = []
    class Seeing(Means):
        def __call__(self, images): sides.append(images.shape[-1]); return super().__call__(images[:, :, :8, :8])
    class Net(torch.nn.Module):
        def forward(self, x): sides.append(x.shape[-1]); return x.mean((2, 3))
    photos, f = open_photos(pictures).take([0, 1]), lambda b: (sides.append(b.shape[-1]), b.mean((2, 3)) + 1)[1]
    for encoder, size in (Seeing(), None), (Seeing(), 16), (f, None), (f, 16), (Net(), 48), ('pixels', None), ('copies', None), ('pixels', 16):
        x = scan(photos, encoder, size=size, cache=False).x
    assert sides == [8, 16, 224, 16, 48] and x.shape == (2, 768)

# What encoders give

def test_images_without_a_direction_are_reported_not_fatal(tmp_path):
    for colour in 'black', 'white': Image.new('RGB', (8, 8), colour).save(tmp_path/f'{colour}.png')
    result = scan(tmp_path, 'pixels', cache=False)
    assert list(result.rows) == [1] and 'only zeros' in result.table.problem[0]
    result = scan(tmp_path, lambda b: np.where(b.mean((1, 2, 3))[:, None] > 9, np.nan, 1) * np.ones(3), cache=False)
    assert list(result.rows) == [0] and 'NaN' in result.table.problem[1]

@pytest.mark.parametrize('encoder, says', [('pixles', "Did you mean 'pixels'"), (7, 'encoder is 7'), (lambda b: b[0], 'returned shape'),
                                           (lambda b: b[:1].reshape(1, -1), r'returned shape \(1,')])
def test_encoders_that_are_none(pictures, encoder, says):
    with pytest.raises(UserError, match=says): scan(pictures, encoder, cache=False)

def test_nothing_can_be_read(tmp_path):
    for i in range(3): (tmp_path/f'{i}.png').write_bytes(b'x' * i)
    with pytest.raises(UserError, match='None of the 3 images .*the file is empty'): scan(tmp_path, 'pixels', cache=False)

def test_some_of_the_images_and_labels(pictures, once):
    photos = open_photos(pictures, labels=['x', 'y'] * 75).take([9, 3, 100])
    some = scan(photos, Means(), cache=False)
    assert list(some.table.label) == [1, 1, 0] and list(some.table['index']) == [0, 1, 2]
    np.testing.assert_array_equal(some.table.bytes_digest, once.table.bytes_digest[[9, 3, 100]])
    np.testing.assert_array_equal(some.x, once.x[[list(once.rows).index(i) for i in (9, 100)]])

# Exact copies

def test_exact_copies_by_bytes_and_by_pixels(tmp_path):
    picture = Image.effect_noise((900, 700), 90).convert('RGB')
    picture.save(tmp_path/'0.png'); (tmp_path/'1.png').write_bytes((tmp_path/'0.png').read_bytes()); picture.save(tmp_path/'2.bmp')
    exif = Image.Exif(); exif[0x0112] = 6; picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path/'3.png', exif=exif)
    picture.save(tmp_path/'4.jpg', quality=90); Image.open(tmp_path/'4.jpg').save(tmp_path/'5.png'); picture.save(tmp_path/'6.jpg', quality=91)
    raw = (tmp_path/'4.jpg').read_bytes(); (tmp_path/'7.jpg').write_bytes(raw[:2] + b'\xff\xfe\x00\x07hello' + raw[2:])   # a comment
    photos = open_photos(tmp_path); table = scan(photos, 'pixels', cache=False).table
    same = lambda column, i, j: table[column][i] == table[column][j]
    assert same('bytes_digest', 0, 1) and not same('bytes_digest', 0, 2) and all(same('pixels_digest', 0, j) for j in (1, 2, 3)) and same('pixels_digest', 4, 7)
    assert table.pixels_digest.str.startswith('~').tolist() == [False] * 4 + [True, False, True, True]
    pairs = np.array([(0, 1), (0, 3), (4, 5), (4, 7), (4, 6), (5, 6), (0, 4)])
    assert same_pixels(photos, table, pairs).tolist() == [True, True, True, True, False, False, False]

def test_exact_copies_that_have_gone_meanwhile_are_none(tmp_path):
    "Large JPEGs were decoded at a reduced size, and are read again; what was decoded in full need not be."
    picture = Image.effect_noise((900, 700), 90).convert('RGB')
    for name in '0.jpg', '1.jpg', '2.png', '3.png': picture.save(tmp_path/name)
    photos = open_photos(tmp_path); table = scan(photos, 'pixels', cache=False).table
    pairs = np.array([(0, 1), (2, 3)])
    assert same_pixels(photos, table, pairs).tolist() == [True, True]
    (tmp_path/'1.jpg').unlink(); (tmp_path/'3.png').unlink()
    assert same_pixels(photos, table, pairs).tolist() == [False, True]

def test_a_reader_that_raises_anything_is_no_end(pictures):
    photos = open_photos(pictures).take([0, 1])
    photos.reader.read = lambda i: [][i]
    seen, image = look_at_image(photos, 0, 8)
    assert seen.problem == 'IndexError while it was read' and image is None
