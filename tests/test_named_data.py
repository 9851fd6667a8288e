"""Data sets by name: files in torchvision's layout, made here, a few images of each."""
import functools, hashlib, io, pickle, tarfile, threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import numpy as np, pytest, torchvision
from PIL import Image
from scipy.io import savemat
from semdedup import UserError, load_images, open_photos

RNG = np.random.default_rng(0)

def md5(path): return hashlib.md5(path.read_bytes()).hexdigest()

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture
def site(tmp_path):
    "A folder, and the address at which a server of this test offers it."
    (folder := tmp_path/'site').mkdir()
    with ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

def cifar100(root, monkeypatch, site):
    "The archive, which is downloaded, checked and unpacked."
    content = {part: {'data': RNG.integers(0, 256, (n, 3072)).astype(np.uint8), 'fine_labels': [i % 3 for i in range(n)]}
               for part, n in (('train', 9), ('test', 6))}
    content['meta'] = {'fine_label_names': [f'class {i}' for i in range(100)]}
    server, address = site
    with tarfile.open(server/'cifar-100-python.tar.gz', 'w:gz') as t:
        for name, c in content.items():
            data = pickle.dumps(c); m = tarfile.TarInfo(f'cifar-100-python/{name}'); m.size = len(data); t.addfile(m, io.BytesIO(data))
            content[name] = hashlib.md5(data).hexdigest()
    cls = torchvision.datasets.CIFAR100
    for attribute, value in dict(url=f'{address}cifar-100-python.tar.gz', tgz_md5=md5(server/'cifar-100-python.tar.gz'),
                                 train_list=[['train', content['train']]], test_list=[['test', content['test']]],
                                 meta={**cls.meta, 'md5': content['meta']}).items():
        monkeypatch.setattr(cls, attribute, value)
    return (9, 6), (3, 32, 32), ['class 0', 'class 1', 'class 2'], [i % 3 for i in range(9)]

def svhn(root, monkeypatch, site):
    server, address = site
    split_list = dict(torchvision.datasets.SVHN.split_list)
    for part, n in ('train', 8), ('test', 5):
        savemat(file := server/f'{part}_32x32.mat',
                {'X': RNG.integers(0, 256, (32, 32, 3, n)).astype(np.uint8), 'y': np.arange(1, n + 1).reshape(-1, 1) % 10 + 1})
        split_list[part] = [address + file.name, file.name, md5(file)]
    monkeypatch.setattr(torchvision.datasets.SVHN, 'split_list', split_list)
    return (8, 5), (3, 32, 32), ['0', '1', '2'], [2, 3, 4, 5, 6, 7, 8, 9]

def jpeg(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3)).astype(np.uint8)).save(path)

def caltech101(root, *_):
    for name, n in ('BACKGROUND_Google', 2), ('Faces', 5), ('accordion', 10), ('ant', 2):
        for i in range(n): jpeg(root/'caltech101'/'101_ObjectCategories'/name/f'image_{i + 1:04d}.jpg', (90 + i, 60))
    Image.new('L', (40, 30), 77).save(root/'caltech101'/'101_ObjectCategories'/'ant'/'image_0001.jpg')                    # some are grey
    return (14, 3), (3, 64, 64), ['Faces', 'accordion', 'ant'], [0] * 4 + [1] * 8 + [2] * 2

def stanford_cars(root, *_):
    base = root/'stanford_cars'; (base/'devkit').mkdir(parents=True)
    savemat(base/'devkit'/'cars_meta.mat', {'class_names': np.array(['AM General Hummer', 'Acura RL'], object)})
    for part, n, annotations in ('train', 4, base/'devkit'/'cars_train_annos.mat'), ('test', 3, base/'cars_test_annos_withlabels.mat'):
        names = [f'{i + 1:05d}.jpg' for i in range(n)]
        for name in names: jpeg(base/f'cars_{part}'/name, (70, 50))
        savemat(annotations, {'annotations': np.array([(name, i % 2 + 1) for i, name in enumerate(names)], [('fname', object), ('class', int)])})
    return (4, 3), (3, 64, 64), ['AM General Hummer', 'Acura RL'], [0, 1, 0, 1]

@pytest.mark.parametrize('name, make', [('cifar100', cifar100), ('svhn', svhn), ('caltech101', caltech101), ('stanford-cars', stanford_cars)])
def test_a_data_set_by_name(tmp_path, monkeypatch, site, name, make):
    root = tmp_path/'data'; root.mkdir()
    (n, n_test), shape, classes, labels = make(root, monkeypatch, site)
    monkeypatch.setenv('SEMDEDUP_DATA', str(root))
    images = load_images(name)
    assert images.train.images.shape == (n, *shape) and images.test.images.shape == (n_test, *shape) and images.train.images.dtype == np.uint8
    assert images.classes[:len(classes)] == classes and images.train.labels.tolist() == labels
    assert load_images(name).digest == images.digest
    photos = open_photos(f'{name}:test')
    assert len(photos) == n_test and photos.read(0).shape == (*shape[1:], 3) and photos.labels.tolist() == images.test.labels.tolist()

def test_the_split_of_caltech_remembers_positions(tmp_path):
    caltech101(tmp_path)
    images = load_images('caltech101', root=tmp_path)
    assert images.train.index.tolist() == [0, 1, 2, 3, *range(5, 13), 15, 16] and images.test.index.tolist() == [4, 13, 14]
    assert np.ptp(images.train.images[12]) == 0                                                                            # grey stays grey

@pytest.mark.parametrize('name, says', [('stanford-cars', 'no longer offered.*cars_train_annos.mat'),
                                        ('svhn', 'tried to read it .* or to download it .*train_32x32.mat'), ('caltech101', '101_ObjectCategories')])
def test_what_cannot_be_had_is_said(tmp_path, monkeypatch, name, says):
    def refused(*args, **kwargs): raise OSError('no network here')
    monkeypatch.setattr('urllib.request.urlopen', refused)
    with pytest.raises(UserError, match=says): load_images(name, root=tmp_path)

def test_a_broken_photograph_is_named_with_the_data_set(tmp_path):
    caltech101(tmp_path)
    (tmp_path/'caltech101'/'101_ObjectCategories'/'ant'/'image_0002.jpg').write_bytes(b'')
    with pytest.raises(UserError, match='caltech101 could not be had'): load_images('caltech101', root=tmp_path)
