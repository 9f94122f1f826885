"""Train one generator of tables on a file and sample from it, in the environment of that generator.

    python peer_drivers.py PEER train.csv synthetic.csv ROWS SEED MINUTES [BASE]

This script imports nothing of the suite: the packages of a peer have pins of their own. Trainings by epochs time a few
of them, and take as many as fit into the minutes.
"""

import sys
import time

import pandas as pd

TRIAL = 20  # epochs that are timed


def _seeded(seed: int) -> None:
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    try:
        import torch
    except ImportError:
        return
    torch.manual_seed(seed)


def _read(path: str) -> pd.DataFrame:
    """Read the table; columns of ISO dates become dates."""
    table = pd.read_csv(path)
    for name in table.columns:
        values = table[name].dropna().astype(str)
        if table[name].dtype.kind in "OU" and len(values) and values.str.fullmatch(r"\d{4}-\d{2}-\d{2}").all():
            table[name] = pd.to_datetime(table[name])
    return table


def _sdv(name: str, table: pd.DataFrame, rows: int, minutes: float) -> pd.DataFrame:
    from sdv import single_table
    from sdv.metadata import Metadata

    data = {"rows": table}
    metadata = Metadata.detect_from_dataframes(data)  # its guesses of types are part of the peer
    kind = {"gaussian_copula": "GaussianCopulaSynthesizer", "ctgan": "CTGANSynthesizer", "tvae": "TVAESynthesizer"}
    chosen = getattr(single_table, kind[name])
    if name == "gaussian_copula":
        made = chosen(metadata)
        made.fit(data)
        return made.sample(rows)["rows"]
    settings = {"enable_gpu": False}

    def seconds(epochs: int) -> float:
        started = time.monotonic()
        chosen(metadata, epochs=epochs, **settings).fit(data)
        return time.monotonic() - started

    seconds(1)  # the first of a process is slow
    first = seconds(1)  # with the preparation of the columns
    epoch = max((seconds(1 + TRIAL) - first) / TRIAL, 0.01)
    epochs = max(1, int((60 * minutes - first) / epoch))
    print(f"{epochs} epochs of {epoch:.2f} s", flush=True)
    made = chosen(metadata, epochs=epochs, **settings)
    made.fit(data)
    return made.sample(rows)["rows"]


def _be_great(table: pd.DataFrame, rows: int, minutes: float, base: str) -> pd.DataFrame:
    import tempfile

    from be_great import GReaT
    from transformers import TrainerCallback

    class Budget(TrainerCallback):
        """Stop after the minutes."""

        def on_train_begin(self, args, state, control, **kwargs):
            self.started = time.monotonic()

        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = time.monotonic() - self.started > 60 * minutes

    with tempfile.TemporaryDirectory() as folder:
        # Its own adapters: a step of the whole base takes 20 seconds on a core. They need a higher learning rate.
        settings = {"efficient_finetuning": "lora", "learning_rate": 5e-4, "save_strategy": "no", "use_cpu": True}
        made = GReaT(llm=base, batch_size=16, epochs=1000, experiment_dir=folder, report_to=[], **settings)
        import be_great.great as great

        trainer = great.GReaTTrainer

        class Timed(trainer):
            """Trainer that stops after the minutes."""

            def __init__(self, *arguments, **more):
                super().__init__(*arguments, **more)
                self.add_callback(Budget())

        great.GReaTTrainer = Timed
        for name in table.columns:
            if table[name].dtype.kind == "M":
                table[name] = table[name].dt.strftime("%Y-%m-%d")
        made.fit(table)
        texts = [", ".join(f"{name} is {value}" for name, value in row.items()) for row in table.to_dict("records")]
        longest = max(len(ids) for ids in made.tokenizer(texts)["input_ids"])
        return made.sample(rows, k=50, device="cpu", max_length=longest + longest // 4)


def _mostlyai(table: pd.DataFrame, rows: int, minutes: float, seed: int) -> pd.DataFrame:
    import tempfile

    from mostlyai import engine

    engine.set_random_state(seed)
    with tempfile.TemporaryDirectory() as folder:
        engine.split(table, model_type="TABULAR", workspace_dir=folder)
        engine.analyze(value_protection=False, workspace_dir=folder)  # no other peer hides rare values
        engine.encode(workspace_dir=folder)
        engine.train(max_training_time=minutes, max_epochs=10_000, device="cpu", workspace_dir=folder)
        engine.generate(sample_size=rows, device="cpu", workspace_dir=folder)
        return pd.read_parquet(f"{folder}/SyntheticData")


def _realtabformer(table: pd.DataFrame, rows: int, minutes: float) -> pd.DataFrame:
    from realtabformer import REaLTabFormer

    made = REaLTabFormer(model_type="tabular", epochs=1, batch_size=64, logging_steps=1000, report_to=[])
    started = time.monotonic()
    made.fit(table.copy(), n_critic=0, device="cpu")
    epoch = time.monotonic() - started
    epochs = max(1, int(60 * minutes / epoch))
    print(f"{epochs} epochs of {epoch:.2f} s", flush=True)
    made = REaLTabFormer(model_type="tabular", epochs=epochs, batch_size=64, logging_steps=1000, report_to=[])
    made.fit(table.copy(), n_critic=0, device="cpu")
    return made.sample(n_samples=rows, device="cpu")


def main() -> None:
    """Train and sample as the command line asks."""
    peer, source, target, rows, seed, minutes = sys.argv[1:7]
    base = sys.argv[7] if len(sys.argv) > 7 else ""
    _seeded(int(seed))
    table = _read(source)
    arguments = table, int(rows), float(minutes)
    if peer in ("gaussian_copula", "ctgan", "tvae"):
        made = _sdv(peer, *arguments)
    elif peer == "be_great":
        made = _be_great(*arguments, base)
    elif peer == "mostlyai":
        made = _mostlyai(*arguments, int(seed))
    elif peer == "realtabformer":
        made = _realtabformer(*arguments)
    else:
        sys.exit(f"no driver for {peer}")
    for name in made.columns:
        if made[name].dtype.kind == "M":
            made[name] = made[name].dt.strftime("%Y-%m-%d")
    made.to_csv(target, index=False)


if __name__ == "__main__":
    main()
