"""Prepare a corpus: sentences, token ids, tokenizer, statistics.

    python prepareDatasets.py --DATA wikipedia-sample
    python prepareDatasets.py --DATA wikitext2 --LOCAL_PATH None
    python prepareDatasets.py --DATA reviews.csv --TEXT_COLUMN text --LABEL_COLUMN stars
    python prepareDatasets.py --DATA people.csv --ROW_TEMPLATE

Writes data/<DATA>/. The dataset of your own file has the stem of its name (reviews.csv -> --DATA reviews).
"""

from pipeline.cli import entry, prepare_command

if __name__ == "__main__":
    entry.run_script(__doc__, prepare_command)
