"""The full data sets and the weights of VGG16, where `SEMDEDUP_DATA` names a folder that has them."""
import os, socket, subprocess, sys
import numpy as np, pytest
from semdedup import embed, load_images
from semdedup.embeddings import FEATURES_INPUT, IMAGENET_INPUT, find_vgg16_weights, get_encoder

pytestmark = pytest.mark.usefixtures('data_root')

@pytest.fixture(autouse=True)
def offline(monkeypatch):
    "Any try to reach another machine fails."
    def refuse(*args, **kwargs): raise AssertionError(f'a connection was tried: {args}')
    for owner, name in (socket.socket, 'connect'), (socket, 'create_connection'), (socket, 'getaddrinfo'): monkeypatch.setattr(owner, name, refuse)

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

@pytest.mark.parametrize('name, shape, train, test, mean', [
    ('fmnist', (1, 28, 28), [6000] * 10, [1000] * 10, [.2860]), ('mnist', (1, 28, 28), MNIST_TRAIN, MNIST_TEST, [.1307]),
    ('cifar10', (3, 32, 32), [5000] * 10, [1000] * 10, [.4914, .4822, .4465]),
], ids=lambda v: v if isinstance(v, str) else '')
def test_the_official_images_load_without_a_connection(name, shape, train, test, mean):
    "Shapes, labels and the means that everybody quotes."
    images = load_images(name)
    for split, counts in (images.train, train), (images.test, test):
        assert split.images.shape == (sum(counts), *shape) and split.images.dtype == np.uint8
        assert np.bincount(split.labels).tolist() == counts
    assert len(images.classes) == 10
    np.testing.assert_allclose(images.train.images.mean((0, 2, 3)) / 255, mean, atol=5e-5)

def test_the_packaged_sample_is_a_part_of_the_official_images():
    sample, official = load_images('fmnist-mini'), load_images('fmnist')
    for part, whole, per_class in (sample.train, official.train, 800), (sample.test, official.test, 200):
        assert len(np.unique(part.index)) == len(part) == 10 * per_class and np.bincount(part.labels).tolist() == [per_class] * 10
        assert np.array_equal(part.images, whole.images[part.index]) and np.array_equal(part.labels, whole.labels[part.index])
    assert [c.lower() for c in sample.classes] == [c.lower() for c in official.classes]

def test_the_weights_of_vgg16_bring_their_preprocessing():
    "The original weights (`…features…`) want Caffe's scale; torchvision's own want ImageNet's. And they see what pixels do not."
    file = find_vgg16_weights()
    if not file: pytest.skip('the data root has no weights of VGG16')
    encoder = get_encoder('vgg16', 28)
    wanted = FEATURES_INPUT if 'features' in file.name else IMAGENET_INPUT
    assert (encoder.config['mean'], encoder.config['std']) == (wanted['mean'], wanted['std']) and encoder.config['weights'] == file.name
    images = load_images('fmnist-mini')
    rng = np.random.default_rng(0)
    train, test = images.train.take(rng.permutation(len(images.train))[:1000]), images.test.take(rng.permutation(len(images.test))[:500])
    x, x_test = [embed(split, 'vgg16', cache=False) for split in (train, test)]
    assert x.shape == (1000, 512) and x.dtype == np.float32
    np.testing.assert_allclose((x * x).sum(1), 1, atol=1e-5)
    nearest = np.argsort(-(x_test @ x.T), 1)[:, :5]
    votes = np.stack([np.bincount(v, minlength=10) for v in train.labels[nearest]])
    accuracy = 100 * (votes.argmax(1) == test.labels).mean()
    assert accuracy > 65, accuracy

MEMORY = """
import sklearn.cluster, numpy as np
from semdedup import embed, kmeans, load_images
def memory(entry): return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith(entry + ':')) / 1024
x = embed(load_images('fmnist'), 'pixels')
kmeans(x[:3000], 20, max_iter=2) # what is loaded at the first call is not what the second one needs
for spherical in True, False:
    open('/proc/self/clear_refs', 'w').write('5') # the peak counts from here
    before = memory('VmRSS')
    groups = kmeans(x, 20, spherical=spherical)
    print(memory('VmHWM') - before, len(groups))
"""

@pytest.mark.skipif(not os.access('/proc/self/clear_refs', os.W_OK), reason='no /proc/self/clear_refs: peak memory cannot be measured')
def test_kmeans_needs_little_memory():
    "60,000 × 784 in 20 clusters: under 200 MB beside the data."
    done = subprocess.run([sys.executable, '-c', MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        peak, n = map(float, line.split())
        assert n == 60_000 and peak < 200, done.stdout
    print(done.stdout)
