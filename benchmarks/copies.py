#!/usr/bin/env python3
"""Near-copies: is it the same picture? semdedup's `copies` and `verify` beside pixels, thumbnails, PCA and a network's features.

    python benchmarks/copies.py [--quick] [--fit] [--only changes fmnist real speed]

**changes, fmnist**: images of the training set are changed as pictures are in life (`CHANGES`: cropped, captioned, saved again …)
and put among thousands of unchanged test images; each of all these finds its best match in the training set. The pairs are ranked
by similarity, and a pair is right if the changed image found the image that it was made of. What an unchanged image finds is wrong,
and competes: the most similar of thousands. Average precision is over these pairs. Two parts share no image: verify's weights
are fitted on `tuning` (`--fit` prints them), and all figures come from `test`.

**real**: the 10,000 test images of CIFAR-10, unchanged, against its 50,000 training images. Real copies are among them.
cifar10_copies.json lists the pairs that were looked at, and what was seen; nothing was fitted on them.

Two rules keep unlabelled real copies out of `changes`: a test image that cifar10_copies.json knows as a copy is not used; and a match
that is another training image than the one that was changed is not counted, neither right nor wrong, if those two were themselves judged or
measured (verify, unchanged, at least 0.5) to be the same picture.

Data: SEMDEDUP_DATA (see `semdedup.load_images`). Writes copies.json beside this file; `--only` replaces parts of it, and `--quick` takes a
tenth of everything and writes only where `--out` says.
"""
import argparse, io, json, platform, time
from pathlib import Path
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from semdedup import load_images
from semdedup.copies import FEATURES, best_matches, find_candidates, measure_pairs, verify
from semdedup.core import atomic_write, blocks, cpu_count
from semdedup.embeddings import efficientnet_lite0, embed, unit_rows

HERE = Path(__file__).parent

# What pictures meet in life. Each takes a PIL image and a generator.

def saved_again(im, rng):
    out = io.BytesIO(); im.save(out, 'JPEG', quality=int(rng.integers(15, 61)))
    return Image.open(out).convert(im.mode)

def other_light(im, rng):
    im = ImageEnhance.Contrast(ImageEnhance.Brightness(im).enhance(rng.uniform(.6, 1.4))).enhance(rng.uniform(.6, 1.4))
    gamma = rng.uniform(.7, 1.4)
    return im.point(lambda v: round(255 * (v / 255)**gamma))

def other_colours(im, rng):
    x = np.asarray(ImageEnhance.Color(im).enhance(rng.uniform(.2, 1.6)), np.float32) * rng.uniform(.8, 1.2, 3)
    return Image.fromarray(np.rint(x.clip(0, 255)).astype(np.uint8))

def grey(im, rng): return im.convert('L').convert(im.mode)

def cropped(im, rng):
    (w, h), side, aspect = im.size, rng.uniform(.75, .95), rng.uniform(.9, 1.1)
    cw, ch = min(w, w * side * aspect), min(h, h * side / aspect)
    x, y = rng.uniform(0, w - cw), rng.uniform(0, h - ch)
    return im.resize(im.size, Image.Resampling.BICUBIC, box=(x, y, x + cw, y + ch))

def squeezed(im, rng):
    "A crop of another shape, made square again, as thumbnails are."
    (w, h), share = im.size, rng.uniform(.7, .9)
    cw, ch = (w * share, h * rng.uniform(.9, 1)) if rng.random() < .5 else (w * rng.uniform(.9, 1), h * share)
    x, y = rng.uniform(0, w - cw), rng.uniform(0, h - ch)
    return im.resize(im.size, Image.Resampling.BICUBIC, box=(x, y, x + cw, y + ch))

def moved(im, rng, by=4):
    x = np.pad(np.asarray(im), [(by, by)] * 2 + [(0, 0)] * (im.mode == 'RGB'), mode='edge')
    i, j = rng.integers(0, 2 * by + 1, 2)
    return Image.fromarray(x[i:i + im.size[1], j:j + im.size[0]])

def resampled(im, rng):
    side = int(rng.integers(12, 21))
    return im.resize((side, side), Image.Resampling.BOX).resize(im.size, Image.Resampling.BICUBIC)

def mirrored(im, rng): return im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

def turned(im, rng):
    w, h = im.size
    x = np.pad(np.asarray(im), [(h // 4, h // 4), (w // 4, w // 4)] + [(0, 0)] * (im.mode == 'RGB'), mode='edge')
    return Image.fromarray(x).rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC).crop((w // 4, h // 4, w // 4 + w, h // 4 + h))

def captioned(im, rng):
    im, (w, h) = im.copy(), im.size
    d, top, dark = ImageDraw.Draw(im), rng.random() < .3, rng.random() < .5
    ink = tuple(int(v) for v in rng.integers(0, 256, 3)) if im.mode == 'RGB' else int(rng.integers(0, 256))
    y = 0 if top else h - int(h * rng.uniform(.15, .25))
    if rng.random() < .6: d.rectangle((0, y, w, y + h // 5 if top else h), fill=(0 if dark else 255) if im.mode == 'L' else (0,) * 3 if dark else (255,) * 3)
    d.text((rng.uniform(0, w / 4), y - 2), ''.join(rng.choice(list('abcdefghi MNOP'), 6)), fill=ink)
    return im

def framed(im, rng):
    w, h = im.size; m = int(rng.integers(1, 4))
    fill = tuple(int(v) for v in rng.choice([[0, 0, 0], [255, 255, 255], rng.integers(0, 256, 3)])) if im.mode == 'RGB' else int(rng.choice([0, 255]))
    out = Image.new(im.mode, im.size, fill)
    out.paste(im.resize((w - 2 * m, h - 2 * m), Image.Resampling.BICUBIC), (m, m))
    return out

def filtered(im, rng):
    kind = rng.integers(3)
    if kind == 0: return im.filter(ImageFilter.GaussianBlur(rng.uniform(.5, 1)))
    if kind == 1: return im.filter(ImageFilter.UnsharpMask(1, int(rng.integers(80, 250)), 0))
    x = np.asarray(im, np.float32)
    return Image.fromarray(np.rint(x + rng.normal(0, rng.uniform(4, 14), x.shape)).clip(0, 255).astype(np.uint8))

CHANGES = {f.__name__.replace('_', ' '): f for f in (saved_again, other_light, other_colours, grey, cropped, squeezed, moved, resampled, mirrored, turned,
                                                     captioned, framed, filtered)}

def several(im, rng):
    for name in rng.choice(list(CHANGES), int(rng.integers(2, 5)), replace=False):
        if im.mode == 'RGB' or name not in COLOUR_ONLY: im = CHANGES[name](im, rng)
    return saved_again(im, rng)

COLOUR_ONLY = {'other colours', 'grey'}
CHANGES['several'] = several

def change(images, kind, rng):
    "Images (n, c, h, w) uint8, each changed in its own way."
    def one(x):
        im = Image.fromarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0))
        y = np.asarray(CHANGES[kind](im, rng)); assert y.dtype == np.uint8 and y.shape[:2] == x.shape[1:]
        return y[None] if y.ndim == 2 else y.transpose(2, 0, 1)
    return np.stack([one(x) for x in images])

# What finds the best match. Each method turns a pool and queries into (match, similarity).

def nearest(queries, pool, k=1, piece=1000):
    "Rows of the pool (n, k) that are most similar to each query, best first, and their similarity."
    found = [np.empty((0, k), np.int64)], [np.empty((0, k), np.float32)]
    for s in blocks(len(queries), piece):
        x = queries[s] @ pool.T
        best = np.argpartition(-x, k - 1, axis=1)[:, :k]; value = np.take_along_axis(x, best, 1)
        order = np.argsort(-value, axis=1, kind='stable')
        found[0].append(np.take_along_axis(best, order, 1)); found[1].append(np.take_along_axis(value, order, 1))
    return np.concatenate(found[0]), np.concatenate(found[1])

def thumbnails(images, side):
    "Area averages (n, c, side, side) float32; sides that do not divide are interpolated."
    import torch
    return torch.nn.functional.interpolate(torch.from_numpy(images).float(), size=(side, side), mode='area').numpy()

def centred(images, side=8):
    x = thumbnails(images, side)
    return unit_rows(np.ascontiguousarray((x - x.mean((2, 3), keepdims=True)).reshape(len(x), -1)) + 1e-6)

def whitening(pool, d=64, side=16):
    "PCA of the pool's thumbnails: the mean, and the directions, scaled."
    x = thumbnails(pool, side).reshape(len(pool), -1); mean = x.mean(0)
    value, vector = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean, vector[:, -d:] / np.sqrt(value[-d:])

class Scene:
    "A pool and queries: changed images of the pool, and others. What several methods need of them is made once."
    def __init__(self, queries, pool, source, kind, true=None):
        self.queries, self.pool, self.source, self.kind, self.true, self.made = queries, pool, source, kind, true, {}
    def rows(self, kind):
        "Unit rows of the queries and the pool."
        if kind not in self.made: self.made[kind] = self.make(kind)
        return self.made[kind]
    def make(self, kind):
        both = self.queries, self.pool
        if kind == 'pixels': return [embed(x, Black(), cache=False) for x in both]
        if kind == 'thumbnails': return [centred(x) for x in both]
        if kind == 'pca':
            mean, w = whitening(self.pool)
            return [unit_rows(np.ascontiguousarray((thumbnails(x, 16).reshape(len(x), -1) - mean) @ w)) for x in both]
        if kind in ('copies', 'fourier'): return [embed(x, kind, cache=False) for x in both]
        return [embed(x, efficientnet_lite0(size=64), name='copies-benchmark') for x in both]
    def candidates(self, k=5):
        "Pairs (query, row of the pool) that `verify` looks at."
        if 'candidates' not in self.made: self.made['candidates'] = find_candidates(self.queries, self.rows('copies')[1], k)
        return self.made['candidates']
    def with_network(self, k=5):
        "The same pairs, and the k best of EfficientNet."
        a, b = self.rows('efficientnet')
        pairs = np.stack([np.repeat(np.arange(len(a)), k), nearest(a, b, k)[0].reshape(-1)], 1)
        return np.unique(np.concatenate([self.candidates(), pairs]), axis=0)

class Black:
    "Pixels, with a trace of light in black images, which have no direction otherwise."
    name, config, batch_size = 'pixels', {}, 2048
    def __call__(self, images): return images.reshape(len(images), -1).astype(np.float32) + 1e-3

METHODS = {'raw pixels': 'pixels', 'centred thumbnails 8 × 8': 'thumbnails', 'PCA-whitened, 64': 'pca', 'EfficientNet-Lite0, 64 pixels': 'efficientnet',
           'Fourier magnitudes': 'fourier', 'copies': 'copies', 'copies + verify': None, 'copies and EfficientNet-Lite0 + verify': None}

def best(scene, method):
    "What each query finds: its best match (n,) and how similar that is (n,)."
    if METHODS[method]: match, s = nearest(*scene.rows(METHODS[method])); return match[:, 0], s[:, 0]
    pairs = scene.candidates() if method == 'copies + verify' else scene.with_network()
    return best_matches(pairs, verify(pairs, scene.queries, scene.pool))[1:]

# Scenes

def judged():
    "The pairs (test, train) of CIFAR-10 that were looked at: 'same', 'unsure', 'different' → pairs."
    return {k: [tuple(p) for p in v] for k, v in json.loads((HERE/'cifar10_copies.json').read_text())['pairs'].items()}

def changed_scene(name, part, per, others):
    "`per` images of the pool for each change, and `others` images of the test set; the two parts share no image."
    images, p = load_images(name), ['tuning', 'test'].index(part)
    rng, pool, plain = np.random.default_rng([p, len(name)]), images.train.images[p::2], np.arange(len(images.test.images))[p::2]
    if name == 'cifar10':
        looked_at = judged(); known = {a for k in ('same', 'unsure') for a, _ in looked_at[k]}
        plain = np.array([i for i in plain if i not in known])
    plain, queries, source, kinds = plain[:others], [], [], []
    for kind in CHANGES:
        if pool.shape[1] == 1 and kind in COLOUR_ONLY: continue
        rows = rng.choice(len(pool), per, replace=False)
        queries.append(change(pool[rows], kind, rng)); source.append(rows); kinds += [kind] * per
    source, kinds = np.concatenate([*source, np.full(len(plain), -1)]), np.array(kinds + [''] * len(plain))
    return Scene(np.concatenate([*queries, images.test.images[plain]]), pool, source, kinds)

def real_scene(others):
    "CIFAR-10 as it is."
    images = load_images('cifar10')
    return Scene(images.test.images[:others], images.train.images, None, None, judged())

# Average precision

def average_precision(hit, score, total):
    "Over a ranking by score: the mean, over all `total` that could be found, of the precision where each is found."
    order = np.argsort(-score, kind='stable')
    precision = np.cumsum(hit[order]) / np.arange(1, len(hit) + 1)
    return float((precision * hit[order]).sum() / total)

def outcome(scene, match, score):
    "Which queries found the right image (n,), which are counted (n,), and how many could be right."
    if scene.true is not None:
        same, unsure = [set(scene.true[k]) for k in ('same', 'unsure')]
        n = len(scene.queries)
        hit = np.array([(i, int(m)) in same for i, m in enumerate(match)])
        return hit, np.array([(i, int(m)) not in unsure for i, m in enumerate(match)]), len({a for a, _ in same if a < n})
    hit, copy = match == scene.source, scene.source >= 0
    strays = np.flatnonzero(copy & ~hit)
    twins = strays[verify(np.stack([scene.source[strays], match[strays]], 1), scene.pool) >= .5] if len(strays) else strays
    counted = np.ones(len(hit), bool); counted[twins] = False
    return hit, counted, int((copy & counted).sum())

def scores(scene, method):
    "Average precision of a method: over all, and a change."
    match, s = best(scene, method)
    hit, counted, total = outcome(scene, match, s)
    row = dict(method=method, all=average_precision(hit[counted], s[counted], total))
    if scene.kind is not None:
        for kind in [k for k in CHANGES if (scene.kind == k).any()]:
            use = counted & np.isin(scene.kind, [kind, ''])
            row[kind] = average_precision(hit[use], s[use], int((counted & (scene.kind == kind)).sum()))
    return row, curve(hit[counted], s[counted], total)

def curve(hit, score, total, points=60):
    "Precision and recall down the ranking, at `points` places."
    order = np.argsort(-score, kind='stable'); found = np.cumsum(hit[order])
    at = np.unique(np.searchsorted(found, np.linspace(1, found[-1], points))) if found[-1] else np.array([], int)
    return dict(recall=[round(float(v), 4) for v in found[at] / total], precision=[round(float(v), 4) for v in found[at] / (at + 1)])

# Fitting

def fit(scene):
    "Logistic regression of the features of copies against those of other pairs."
    from sklearn.linear_model import LogisticRegression
    pairs = scene.candidates()
    x, equal = measure_pairs(pairs, scene.queries, scene.pool)
    source = scene.source[pairs[:, 0]]; right = source == pairs[:, 1]
    use = (right | (source < 0)) & ~equal
    mean, sd = x[use].mean(0), x[use].std(0) + 1e-6
    model = LogisticRegression(C=.3, max_iter=5000).fit((x[use] - mean) / sd, right[use])
    weights = model.coef_[0] / sd
    return dict(zip(FEATURES, [round(float(v), 2) for v in weights])) | dict(offset=round(float(model.intercept_[0] - weights @ mean), 2))

# Speed

def speed(images, pairs):
    "Images and pairs a second."
    def seconds(f):
        start = time.perf_counter()
        f()
        return time.perf_counter() - start
    x = embed(images, 'copies', cache=False)
    few = images[:2000]
    return dict(embedded_per_second=round(len(images) / min(seconds(lambda: embed(images, 'copies', cache=False)) for _ in range(3))),
                searched_per_second=round(len(few) / seconds(lambda: find_candidates(few, x))), searched_among=len(x),
                pairs_per_second=round(len(pairs) / min(seconds(lambda: verify(pairs, images)) for _ in range(3))), cpus=cpu_count())

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true'); p.add_argument('--fit', action='store_true'); p.add_argument('--out', type=Path, default=None)
    p.add_argument('--only', nargs='+', choices=['changes', 'fmnist', 'real', 'speed'], default=['changes', 'fmnist', 'real', 'speed'])
    a = p.parse_args()
    out = a.out or HERE/'copies.json'
    if a.quick and not a.out: p.error('--quick writes only where --out says')
    per, others, real = (4, 400, 1000) if a.quick else (60, 5000, 10000)
    result = json.loads(out.read_text()) if out.exists() else dict(parts={}, curves={}, fitted={})
    if a.fit:
        result['fitted'] = fit(changed_scene('cifar10', 'tuning', 2 * per, 2 * others))
        print(json.dumps(result['fitted']), '\nPut these into WEIGHTS and OFFSET of the copies notebook.')
    todo = {'changes': lambda: changed_scene('cifar10', 'test', per, others), 'fmnist': lambda: changed_scene('fmnist', 'test', per, others),
            'real': lambda: real_scene(real)}
    for part in [] if a.fit else [o for o in a.only if o in todo]:
        scene, rows = todo[part](), []
        for method in METHODS:
            if part == 'fmnist' and 'EfficientNet' in method: continue
            row, points = scores(scene, method)
            rows.append({k: v if isinstance(v, str) else round(v, 4) for k, v in row.items()}); result['curves'][f'{part}: {method}'] = points
            print(part, rows[-1], flush=True)
        result['parts'][part] = dict(rows=rows, queries=len(scene.queries), pool=len(scene.pool))
    if not a.fit and 'speed' in a.only:
        images = load_images('cifar10').train.images; rng = np.random.default_rng(0)
        result['speed'] = speed(images, rng.integers(0, len(images), (4000, 2)))
        print(result['speed'])
    result['machine'] = dict(system=platform.system(), python=platform.python_version(), cpus=cpu_count())
    with atomic_write(out) as tmp: tmp.write_text(json.dumps(result, indent=1) + '\n')

if __name__ == '__main__': main()
