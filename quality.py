"""Measure the quality and the safety of an experiment's samples, beside held-out real text.

    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 5000
    python quality.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm
    python quality.py --EXPERIMENT_NAME nvib --DROP_COPIES True

Writes quality.html and quality.json beside the model, and quality/ figures into summary.json: fidelity, coverage,
diversity, a check for copies of training sentences in wording and (after make pretrained) in meaning, a
membership-inference test, and with labels the usefulness for a classifier. None of them is a privacy guarantee. With
--DROP_COPIES, it also writes samples_without_copies.jsonl and .txt, and for text from your own file synthetic.<format>,
all without the copies.
"""

from pipeline.cli import entry, quality_command

if __name__ == "__main__":
    entry.run_script(__doc__, quality_command)
