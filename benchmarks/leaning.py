#!/usr/bin/env python3
"""Which images a subset should favour, rare ones or common ones, and how: by drawing, with space or without, or by covering.

Three data sets, on the validation split.

    python benchmarks/leaning.py [--dataset mnist fmnist cifar10] [--ratio 5 10 25] [--seeds N] [--quick]

The test split is not looked at: the validation images, a tenth of the training split, take its place. Seeds begin at 100, so that no
subset, no clustering and no network is one of the reports'. Each selection is paired with random subsets of the same size by its seed.
Every training is a row of leaning.csv, beside this file, written as soon as its stack is trained; what stands there already is not trained
again (an hour and a half in all, most of it for CIFAR-10, whose number of seeds is smaller for that). `--quick` takes the packaged sample,
and writes only where `--out` says.
"""
import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import numpy as np
import pandas as pd
from dedup import markdown
from semdedup import load_images
from semdedup.core import atomic_write
from semdedup.datasets import Images, holdout
from semdedup.embeddings import embed
from semdedup.pruning import total_of
from semdedup.selections import Pool, leaning_location, leaning_sample, random_subset, spaced_sample
from semdedup.training import Recipe, Run, interval, train

SELECTIONS = {'random': (random_subset,), 'draw the rare': (leaning_sample, 1), # and how each leans
              'draw the common, with space': (spaced_sample, -1), 'draw the rare, with space': (spaced_sample, 1),
              'cover the common': (leaning_location, -1), 'cover both alike': (leaning_location, 0), 'cover the rare': (leaning_location, 1)}
CNN = Recipe('cnn', precision='bfloat16')
SETUPS = {'mnist': ('pixels', Recipe(), 20), 'fmnist': ('pixels', Recipe(), 20), 'fmnist-mini': ('pixels', Recipe(epochs=3), 2),
          'cifar10': ('efficientnet-lite0', CNN, 8)} # space, training, seeds
KEY = ['data', 'ratio', 'seed', 'selection']
COLUMNS = [*KEY, 'distance', 'accuracy'] # distance: the mean to ten neighbours, by which `plentiful` decides

def setting(name: str) -> tuple[Images, np.ndarray]:
    "The images, whose test split is the validation split, and their embeddings."
    images = holdout(load_images(name))[0]
    return replace(images, test=images.val), embed(images, SETUPS[name][0])

def measure(name: str, ratios: list[float], seeds: int, there: set[tuple], save: Callable[[pd.DataFrame], None]) -> None:
    "The trainings that are not there: a row each, with its accuracy in per cent, saved stack by stack."
    keys = [k for s in range(100, 100 + seeds) for r in ratios for v in SELECTIONS if (k := (name, r, s, v)) not in there]
    if not keys: return
    (images, x), runs, pool = setting(name), [], None
    for _, ratio, seed, selection in keys:
        if pool is None: pool = Pool(x, seed=seed)
        elif pool.seed != seed: pool = Pool(x, seed=seed).share(pool)
        choose, *lean = SELECTIONS[selection]
        runs.append(Run(choose(pool, total_of(ratio, len(pool)), np.random.default_rng(seed), *lean), seed))
    todo = pd.DataFrame(keys, columns=KEY).assign(distance=round(float(pool.apart.mean()), 3))
    def done(which: np.ndarray, result: pd.DataFrame, curve: pd.DataFrame) -> None: save(todo.iloc[which].assign(accuracy=result.val_accuracy.round(3)))
    train(images, runs, SETUPS[name][1], done=done)

def gains(table: pd.DataFrame) -> list[dict]: # a row a data set and selection
    "Points over random, paired by seed, with 95 % intervals."
    wide = table.pivot_table(index=KEY[:3], columns='selection', values='accuracy').reset_index()
    rows = []
    for data, t in wide.groupby('data', sort=False):
        for v in [v for v in SELECTIONS if v != 'random' and v in t and t[v].notna().any()]:
            row = {'data': data, 'mean distance': f'{table[table.data == data].distance.iloc[0]:.2f}', 'selection': v}
            for ratio, u in t.groupby('ratio'):
                difference = (u[v] - u.random).dropna().to_numpy()
                gain, ci = interval(difference)
                row[f'{100 * ratio:g} % kept'] = f'{gain:+.2f} ± {ci:.2f}'
            rows.append({**row, 'seeds': len(difference)})
    return rows

def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_argument('--dataset', nargs='+', default=['mnist', 'fmnist', 'cifar10'], choices=SETUPS)
    cli.add_argument('--ratio', nargs='+', type=float, default=[5, 10, 25], help='per cents that are kept')
    cli.add_argument('--seeds', type=int, help='of each data set')
    cli.add_argument('--quick', action='store_true', help='fmnist-mini, and a tenth')
    cli.add_argument('--out', type=Path)
    a = cli.parse_args()
    if a.quick: a.dataset, a.ratio = ['fmnist-mini'], [10]
    out = a.out or (None if a.quick else Path(__file__).with_suffix('.csv'))
    table = pd.read_csv(out) if out and out.exists() else pd.DataFrame(columns=COLUMNS)
    def save(new: pd.DataFrame) -> None:
        nonlocal table
        table = pd.concat([t for t in (table, new) if len(t)], ignore_index=True).sort_values(KEY[:3], kind='stable')
        if out:
            with atomic_write(out) as tmp: table.to_csv(tmp, index=False)
    for name in a.dataset: measure(name, [r / 100 for r in a.ratio], a.seeds or SETUPS[name][2], set(table[KEY].itertuples(index=False, name=None)), save)
    print(markdown(gains(table)))

if __name__ == '__main__': main()
