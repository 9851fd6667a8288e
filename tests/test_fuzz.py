"""Damaged files of every format that is read: a sentence of the package's own, or a valid result; never another exception, never a hang."""
import functools, io, json, os, resource, signal, tarfile, warnings
from contextlib import contextmanager
from pathlib import Path
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest, torch, torchvision
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image, features
from safetensors.numpy import save_file
from semdedup import Selection, UserError, deduplicate, load_images, open_photos, open_vectors
from semdedup.cli import results_folder
from semdedup.embeddings import read_cache, read_weights, write_cache
from semdedup.pictures import Unreadable, decode
from semdedup.grids import RESULT_COLUMNS, claim_folder, read_results
from semdedup.scanning import Look, Store

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)

# What a valid file of each format holds, as bytes

def saved(write):
    "What `write` puts into a file that it is given."
    write(out := io.BytesIO())
    return out.getvalue()

def written(folder, write, name):
    "What `write` puts at a path that it is given."
    write(folder/name)
    return (folder/name).read_bytes()

def picture(kind, **kwargs): return saved(lambda f: Image.fromarray(PIXELS[0]).resize((40, 30)).save(f, kind, **kwargs))

def arrow(table, new):
    def write(f):
        with new(f, table.schema) as w: w.write_table(table)
    return saved(write)

def tar(f):
    with tarfile.open(fileobj=f, mode='w') as t:
        for name, data in {'a.png': picture('PNG'), 'a.cls': b'1', 'b.jpg': picture('JPEG'), 'b.json': b'{"label": "cat"}',
                           'long' * 40 + '.png': picture('PNG')}.items():
            m = tarfile.TarInfo(name); m.size = len(data); t.addfile(m, io.BytesIO(data))

def idx(a): return bytes([0, 0, 8, a.ndim]) + b''.join(n.to_bytes(4, 'big') for n in a.shape) + a.tobytes()

VECTORS = pa.table({'id': [f'i{i}' for i in range(40)], 'x': pa.array(X.tolist(), pa.list_(pa.float32()))})
IMAGES = pa.table({'image': pa.array([{'bytes': picture('PNG'), 'path': f'{i}.png'} for i in range(6)]), 'label': [0, 1] * 3})
SPLIT = dict(train_images=PIXELS, train_labels=np.arange(6) % 2, test_images=PIXELS[:2], test_labels=[0, 1], classes=['a', 'b'])
KINDS = {'png': picture('PNG'), 'jpeg': picture('JPEG'), 'gif': picture('GIF'), 'webp': picture('WEBP'), 'bmp': picture('BMP'), 'ppm': picture('PPM'),
         'tiff': picture('TIFF', compression='tiff_lzw'), 'jpeg 2000': picture('JPEG2000'),
         'exif': picture('JPEG', exif=b'Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0'),
         **({'avif': picture('AVIF')} if 'avif' in features.get_supported() else {})}

# How each is read, to the last byte

def all_images(source, **kwargs):
    "Open images and decode each; one that cannot be read is no failure of the others."
    photos = open_photos(source, **kwargs)
    assert len(photos.ids) == len(photos) and (photos.labels is None or len(photos.labels) == len(photos))
    for i in range(len(photos)):
        try: assert decode(photos.read(i)).shape[0] == 3
        except Unreadable as e: assert str(e)

def vectors(path):
    v = open_vectors(path).check()
    assert v.take(slice(None)).shape == v.shape and len(v.lengths) == len(v)

def images(path):
    d = load_images(str(path))
    assert d.train.images.dtype == np.uint8 and len(d.train.images) == len(d.train.labels) and d.train.labels.max() < len(d.classes)

def mnist(path): # one of the four files is damaged
    root = path.parent
    for name, part in {'train-images-idx3-ubyte': PIXELS[..., 0], 'train-labels-idx1-ubyte': np.arange(6, dtype=np.uint8) % 2,
                       't10k-images-idx3-ubyte': PIXELS[..., 1], 't10k-labels-idx1-ubyte': np.arange(6, dtype=np.uint8) % 2}.items():
        (root/'MNIST'/'raw').mkdir(parents=True, exist_ok=True)
        (root/'MNIST'/'raw'/name).write_bytes(path.read_bytes() if path.name in name else idx(part))
    assert load_images('mnist', root).train.images.shape[0] == 6

def selection(path):
    s = Selection.from_parquet(path)
    assert len(s) == len(s.table) and all(0 <= i < len(s) for i in s.keep)

def one_picture(path): assert decode(path.read_bytes()).dtype == np.uint8

def cached(path):
    x = read_cache(path, {'encoder': 'fuzz'})
    assert x is None or np.array_equal(x, X)

def store(path):
    "A damaged piece is removed, and its images are looked at again."
    kept = Store(path.parent).read()
    assert kept is None or kept.num_rows == 1

def piece(folder):
    Store(folder).add([b'm' * 16], [Look(8, 8, 100, 2, 1., 'a', 'b', b'jpeg')], [X[0].tobytes()])
    return next(folder.glob('*.arrow'))

@functools.cache
def decided(): return deduplicate(X, eps=.3, n_clusters=3).table

def resumed(path):
    "However a checkpoint is damaged, the result is the same, or the folder is refused."
    pd.testing.assert_frame_equal(deduplicate(X, eps=.3, n_clusters=3, checkpoint=path.parent).table, decided())

def checkpointed(folder, name):
    deduplicate(X, eps=.3, n_clusters=3, checkpoint=folder)
    return next(folder.glob(name)).read_bytes()

# name of the file (or a pattern of its name), what it holds, how it is read
FORMATS = {
    'npy vectors': ('x.npy', lambda d: saved(lambda f: np.save(f, X)), vectors),
    'parquet vectors': ('x.parquet', lambda d: saved(lambda f: pq.write_table(VECTORS, f)), vectors),
    'parquet columns': ('x.parquet', lambda d: saved(lambda f: pq.write_table(pa.table({f'{i}': X[:, i] for i in range(4)}), f, compression='zstd')), vectors),
    'arrow vectors': ('x.arrow', lambda d: arrow(VECTORS, pa.ipc.new_file), vectors),
    'arrow stream': ('x.arrow', lambda d: arrow(VECTORS, pa.ipc.new_stream), vectors),
    'npz data set': ('x.npz', lambda d: saved(lambda f: np.savez(f, **SPLIT)), images),
    'npz compressed': ('x.npz', lambda d: saved(lambda f: np.savez_compressed(f, **SPLIT)), all_images),
    'npy images': ('x.npy', lambda d: saved(lambda f: np.save(f, PIXELS)), all_images),
    'parquet images': ('x.parquet', lambda d: saved(lambda f: pq.write_table(IMAGES, f)), all_images),
    'tar': ('x.tar', lambda d: saved(tar), all_images),
    'idx images': ('train-images-idx3-ubyte', lambda d: idx(PIXELS[..., 0]), mnist),
    'idx labels': ('train-labels-idx1-ubyte', lambda d: idx(np.arange(6, dtype=np.uint8) % 2), mnist),
    'manifest': ('x.parquet', lambda d: written(d, deduplicate(X, eps=.3).to_parquet, 'x.parquet'), selection),
    'results': ('results.parquet', lambda d: saved(lambda f: pd.DataFrame(
        {c: [.5, 1] if c in ('ratio', 'accuracy', 'seed') else ['a', 'b'] for c in RESULT_COLUMNS}).to_parquet(f)), read_results),
    'report config': ('config.json', lambda d: json.dumps({'dataset': 'x', 'ratios': [.1, .5]}).encode(),
                      lambda p: claim_folder(p.parent, {'dataset': 'x', 'ratios': [.1, .5]})),
    'dedup config': ('config.json', lambda d: json.dumps({'made by': 'dedup', 'format': 1}).encode(), lambda p: results_folder(p.parent, 'photos', 'dedup')),
    'safetensors': ('w.safetensors', lambda d: written(d, lambda p: save_file({'a': X}, p), 'w.safetensors'), read_weights),
    'pth': ('w.pth', lambda d: saved(lambda f: torch.save({'a': torch.zeros(3)}, f)), read_weights),
    'old pth': ('w.pth', lambda d: saved(lambda f: torch.save({'a': torch.zeros(3)}, f, _use_new_zipfile_serialization=False)), read_weights),
    'cache': ('x.safetensors', lambda d: written(d, lambda p: write_cache(p, X, {'encoder': 'fuzz'}), 'x.safetensors'), cached),
    'store': ('a.arrow', lambda d: piece(d).read_bytes(), store),
    'checkpoint note': ('checkpoint.json', lambda d: checkpointed(d, 'checkpoint.json'), resumed),
    'checkpoint clusters': ('clusters-*.npz', lambda d: checkpointed(d, 'clusters-*.npz'), resumed),
    'checkpoint pairs': ('pairs-*.npz', lambda d: checkpointed(d, 'pairs-*.npz'), resumed),
    **{f'{k} picture': ('x', functools.partial(lambda data, d: data, data), one_picture) for k, data in KINDS.items()},
}

# Damage

EDIT = st.tuples(st.sampled_from(['set', 'cut', 'insert', 'repeat', 'end']), st.floats(0, 1), st.integers(1, 16),
                 st.sampled_from([b'\0', b'\xff', b'\x80', b'\x7f', b'0', b'9', b'[', b'{', b'-', b'"', b'[' * 10_000]) | st.binary(min_size=1, max_size=4))

def damage(data, edits):
    "Apply edits: (what, where as a share of the length, how many bytes, which)."
    for what, where, n, new in edits:
        at = int(where * len(data))
        data = {'set': data[:at] + (new * n)[:n] + data[at + n:], 'cut': data[:at] + data[at + n:], 'insert': data[:at] + new + data[at:],
                'repeat': data[:at] + data[max(0, at - n):at] * 2 + data[at:], 'end': data[:at]}[what]
    return data

@contextmanager
def bounded(seconds=300, more=2 * 2**30):
    "Fail where the block takes too long or asks for memory without measure (where the system can tell)."
    def late(*_): raise AssertionError('it hangs')
    before, limits = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    signal.alarm(seconds)
    if os.path.exists('/proc/self/statm'):
        resource.setrlimit(resource.RLIMIT_AS, (int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize() + more, limits[1]))
    try: yield
    finally:
        signal.alarm(0); signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)

@pytest.fixture(scope='module', autouse=True)
def no_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.datasets.MNIST, 'mirrors', ['http://127.0.0.1:9/'])
        yield

@pytest.mark.parametrize('name', FORMATS)
def test_damaged_files_are_refused_in_a_sentence_or_read(name, tmp_path):
    file, make, read = FORMATS[name]
    valid = make(tmp_path)
    path = next(tmp_path.glob(file), tmp_path/file)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path.write_bytes(valid); read(path)                     # as it is, it is read

        @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(st.lists(EDIT, min_size=1, max_size=4).map(lambda edits: damage(valid, edits)) | st.binary(max_size=200))
        def refused_or_read(data):
            path.write_bytes(data)
            try:
                with bounded(): read(path)
            except (UserError, Unreadable) as e: assert str(e) and '\n' not in str(e)
        refused_or_read()

EXAMPLES = int(os.environ.get('SEMDEDUP_FUZZ', '60')) # more of them find rarer things: SEMDEDUP_FUZZ=5000 pytest tests/test_fuzz.py
