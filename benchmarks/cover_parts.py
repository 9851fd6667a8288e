#!/usr/bin/env python3
"""Covering without labels, part by part, on the validation split: what weights and shares add to facility location.

    python benchmarks/cover_parts.py [--dataset mnist fmnist] [--ratio 5 10 25] [--seeds 10] [--quick]

The test split is not looked at: the validation images, a tenth of the training split, take its place. Seeds begin at 100, so that no
subset, no clustering and no network is one of the reports'. All are paired with random subsets of the same size by their seed. What is
varied is what it counts that an image is covered (`weight`), how many images a cluster gets (`shares`), and how many of the most remote
of a cluster are left out (`cut`). Writes cover_parts.json beside this file; `--quick` takes the packaged sample, and writes only where `--out` says.
"""
import argparse, json, time
from dataclasses import dataclass, replace
from pathlib import Path
import numpy as np
from dedup import machine, markdown
from semdedup import load_images
from semdedup.core import atomic_write
from semdedup.datasets import holdout
from semdedup.embeddings import embed
from semdedup.pruning import apportion, total_of
from semdedup.selections import Pool, cover_clusters, random_subset, ranked, ranked_inside
from semdedup.training import Run, interval, train

@dataclass(frozen=True)
class Variant:
    "A way to choose without labels."
    weight: str = 'alike' # what it counts that an image is covered: alike, inside (its rank in its cluster), all (its rank among all)
    shares: str = 'size' # how many a cluster gets, in proportion to its size, or to the sum of its ranks among all
    power: float = 1. # of the weight
    cut: float = 0. # this part of each cluster, the most remote, counts nothing
    drawn: bool = False # no cover at all: images drawn with their rank among all as chance

VARIANTS = {'facility location': Variant(), 'shares only': Variant(shares='ranks'), 'weights only': Variant('inside'), 'weighted location': Variant('inside', 'ranks'),
            'weighted, squared': Variant('inside', 'ranks', power=2), 'weighted, cut 5 %': Variant('inside', 'ranks', cut=.05),
            'weights among all': Variant('all'), 'drawn by rank': Variant(drawn=True)}

def select(pool: Pool, m: int, v: Variant, rng: np.random.Generator) -> np.ndarray:
    "Rows that stay, (m,) int64."
    cluster, sizes, among = pool.groups.labels, pool.groups.sizes, ranked(pool.apart)
    inside = ranked_inside(pool.apart, cluster)
    if v.drawn: return np.sort(rng.choice(len(pool), m, replace=False, p=among / among.sum()))
    weight = {'alike': np.ones_like(among), 'inside': inside, 'all': among}[v.weight] ** v.power * (inside <= 1 - v.cut)
    want = sizes if v.shares == 'size' else np.bincount(cluster, among, len(sizes))
    return cover_clusters(pool, apportion(m, want, sizes), weight.astype(np.float32), rng)

def measure(name: str, ratios: list[float], seeds: int) -> list[dict]:
    "Gain over random of each variant, in points of validation accuracy."
    images = holdout(load_images(name))[0]
    images, runs, what, first = replace(images, test=images.val), [], [], None
    x = embed(images, 'pixels')
    for seed in range(100, 100 + seeds):
        pool = Pool(x, seed=seed)
        first = first or pool
        pool.share(first)
        for ratio in ratios:
            m = total_of(ratio, len(pool))
            for v in (None, *VARIANTS):
                rng = np.random.default_rng(seed)
                runs.append(Run(select(pool, m, VARIANTS[v], rng) if v else random_subset(pool, m, rng), seed)); what.append((ratio, v))
    found = train(images, runs).val_accuracy.to_numpy()
    by = {w: found[[o == w for o in what]] for w in dict.fromkeys(what)}
    rows = []
    for v in VARIANTS:
        row = {'data': name, 'variant': v}
        for r in ratios:
            gain, ci = interval(by[r, v] - by[r, None])
            row[f'{100 * r:g} %'] = f'{gain:+.2f} ± {ci:.2f}'
        rows.append(row)
    return rows

def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_argument('--dataset', nargs='+', default=['mnist', 'fmnist'])
    cli.add_argument('--ratio', nargs='+', type=float, default=[5, 10, 25], help='per cents that are kept')
    cli.add_argument('--seeds', type=int, default=10)
    cli.add_argument('--quick', action='store_true', help='two seeds of fmnist-mini, and a tenth')
    cli.add_argument('--out', type=Path)
    a = cli.parse_args()
    if a.quick: a.dataset, a.ratio, a.seeds = ['fmnist-mini'], [10], 2
    out, start = a.out or (None if a.quick else Path(__file__).with_suffix('.json')), time.time()
    rows = [row for name in a.dataset for row in measure(name, [r / 100 for r in a.ratio], a.seeds)]
    print(markdown(rows))
    print(f'{time.time() - start:.0f} s')
    if out:
        with atomic_write(out) as tmp: tmp.write_text(json.dumps({'machine': machine(), 'unit': 'points of validation accuracy over random, ± 95 %', 'seeds': a.seeds, 'rows': rows}, indent=1, ensure_ascii=False) + '\n')

if __name__ == '__main__': main()
