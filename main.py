"""Train what a config file describes: python main.py --workdir=W --config=F [--config.field=value ...]."""

from flatwide.cli import entry_point

if __name__ == "__main__":
    entry_point()
