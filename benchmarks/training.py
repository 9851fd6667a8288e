"""How long a training takes, and whether the faster ways learn as much: the plain loops beside many replicas at once.

    python benchmarks/training.py [--quick] [--only speed precision] [--rounds 3]

Ways take turns, round after round; the fastest round is given, and how many times faster than the original's loop that is. The limit
is the arithmetic: the floating-point operations of the model's products and convolutions, forward and backward, at the rate of a bare
matrix product on all cores. Images are those of the packaged sample, repeated; for the CNN with three channels and 32 pixels a side.

Writes training.json beside this file. `--quick` takes one round, and fewer seeds and epochs for `precision`; it writes only where
`--out` says.
"""
import argparse, json, os, time, warnings
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from dedup import all_with, in_turn, machine, markdown, short
from semdedup import load_images
from semdedup.core import atomic_write, cpu_count
from semdedup.datasets import Images, Split
from semdedup.training import Recipe, Run, interval, train

N, EPOCHS = 12_500, 30 # a quarter of Fashion-MNIST, as in the original

def sample(model: str) -> Images:
    "The packaged sample, repeated to `N` images; for the CNN in three channels, with a border."
    images = load_images('fmnist-mini')
    rows = np.arange(N) % len(images.train)
    x = images.train.images[rows]
    if model == 'cnn': x = np.pad(np.repeat(x, 3, 1), ((0, 0), (0, 0), (2, 2), (2, 2)))
    return Images('sample', Split(x, images.train.labels[rows]), Split(x[:500], images.train.labels[:500]), images.classes)

def network(model: str) -> nn.Module:
    "The same model out of torch's own layers."
    if model == 'mlp': return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    halve = lambda a, b: (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*halve(3, 16), *halve(16, 32), *halve(32, 64), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10))

def flops(model: str) -> float:
    "Floating-point operations of a training: twice the products of the layers, forward and for the weights, and but for the first layer for their inputs."
    layers = [784 * 128, 128 * 64, 64 * 10] if model == 'mlp' else [27 * 16 * 1024, 144 * 32 * 256, 288 * 64 * 64, 1024 * 128, 1280]
    return 2. * N * EPOCHS * (3 * sum(layers) - layers[0])

class Files(Dataset):
    "The original's way: one image at a time, through torchvision's transforms."
    def __init__(self, split: Split):
        self.x, self.y = [transforms.functional.to_pil_image(torch.from_numpy(o)) for o in split.images], split.labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((.5,), (.5,))])
    def __len__(self): return len(self.y)
    def __getitem__(self, i): return self.transform(self.x[i]), int(self.y[i])

def loop(net: nn.Module, batches, epochs: int) -> None:
    "The plain training loop."
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x, y in batches():
            optimizer.zero_grad(); F.cross_entropy(net(x), y).backward(); optimizer.step()

def speed(quick: bool, rounds: int) -> list[dict]:
    "Seconds a training of 12,500 images for 30 epochs (measured on a few epochs), per replica."
    rows = []
    for model, epochs, replicas in ('mlp', 3, 26), ('cnn', 1, 2 * cpu_count()):
        images = sample(model)
        files = Files(images.train)
        x, y = ((torch.from_numpy(images.train.images).float() - 127.5) / 127.5), torch.from_numpy(images.train.labels)
        in_memory = lambda: ((x[r], y[r]) for r in torch.randperm(N).split(128))
        a, b = np.random.default_rng(0).standard_normal((2, 2048, 2048), dtype=np.float32)
        ways = {'the bare arithmetic': lambda: all_with(a, b, 8),
                'Dataset and DataLoader (the original)': lambda: loop(network(model), lambda: DataLoader(files, batch_size=128, shuffle=True), epochs),
                'tensors in memory': lambda: loop(network(model), in_memory, epochs)}
        for precision in ('float32',) if model == 'mlp' else ('float32', 'bfloat16'):
            ways[f'semdedup, {replicas} replicas, {precision}'] = lambda p=precision: train(
                images, [Run(np.arange(N), s) for s in range(replicas)], Recipe(model, epochs, precision=p))
        seconds, _ = in_turn(ways, rounds)
        for way, s in seconds.items():
            each = (min(s) * flops(model) / (8 * 2 * 2048 ** 3) if way == 'the bare arithmetic'
                    else min(s) * EPOCHS / epochs / (replicas if way.startswith('semdedup') else 1))
            rows.append(dict(model=model, way=way, seconds=short(each)))
        base = next(r['seconds'] for r in rows if r['model'] == model and 'original' in r['way'])
        for r in rows:
            if r['model'] == model: r['times_faster'] = short(base / r['seconds'])
    return rows

def precision(quick: bool, rounds: int) -> list[dict]:
    "Test accuracy of the CNN on the packaged sample, 5 epochs, ten seeds, in both precisions: mean with its 95 % interval, and the paired difference."
    images, rows, found = load_images('fmnist-mini'), [], {}
    for p in 'float32', 'bfloat16':
        found[p] = train(images, [Run(np.arange(len(images.train)), s) for s in range(2 if quick else 10)],
                         Recipe('cnn', 1 if quick else 5, precision=p)).accuracy
        mean, half = interval(found[p])
        rows.append(dict(precision=p, accuracy=short(mean), ci95=short(half)))
    mean, half = interval(found['bfloat16'] - found['float32'])
    return [*rows, dict(precision='bfloat16 − float32', accuracy=short(mean), ci95=short(half))]

PARTS = {f.__name__: f for f in (speed, precision)}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true', help='one round; nothing is written but to --out')
    p.add_argument('--only', nargs='+', choices=list(PARTS), help='only these parts')
    p.add_argument('--rounds', type=int, help='turns of each way (3; 1 if --quick)')
    p.add_argument('--out', type=Path, help='write here instead of training.json')
    a = p.parse_args()
    os.environ.setdefault('SEMDEDUP_PROGRESS', '0')
    warnings.simplefilter('ignore')
    out, rounds = a.out or (None if a.quick else Path(__file__).with_suffix('.json')), a.rounds or (1 if a.quick else 3)
    parts = json.loads(out.read_text())['parts'] if out and out.exists() and a.only else {}
    for name in a.only or PARTS:
        t = time.perf_counter()
        rows = PARTS[name](a.quick, rounds)
        parts[name] = dict(what=PARTS[name].__doc__, rows=rows)
        print(f'\n### {name} ({time.perf_counter() - t:.0f} s)\n{parts[name]["what"]}\n\n{markdown(rows)}', flush=True)
        if out:
            with atomic_write(out) as tmp:
                tmp.write_text(json.dumps({'machine': machine(), 'unit': 'seconds', 'parts': parts}, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')

if __name__ == '__main__': main()
