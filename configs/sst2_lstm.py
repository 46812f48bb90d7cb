"""Does SAM help an LSTM on SST-2?

Run:     python main.py --workdir=runs/sst2 --config=configs/sst2_lstm.py --config.data_dir=DIRECTORY
         (GLUE's train.tsv and dev.tsv in DIRECTORY; without data_dir they come from the Hugging Face hub)
Width:   --config.hidden_size=512; SGD: --config.rho=0; without a download: --config.dataset=made_sentiment;
         texts of your own: --config.dataset=labelled_text --config.data_dir=FILE
Expect:  paper, best accuracy on the dev split, 2.5 million parameters: SGD 85.55 %, SAM 86.05 %.
         docs/studies/sst2_width.md has smaller runs.
Takes:   not measured; benchmarks/lstm_step.py times a step of it on your machine.
Source:  paper, table 2. Flax's SST-2 example, on which the paper builds: the network, dropout, and the vocabulary of
         words that occur three times; momentum is 0.9 there and it has 10 epochs.
"""

from flatwide.config import default


def get_config():
    config = default()
    config.model = "LSTM"
    config.hidden_size = 128
    config.dataset = "sst2"
    config.min_word_count = 3

    config.optimizer = "sam"
    config.rho = 0.1
    config.momentum = 0.8
    config.weight_decay = 3e-6
    config.learning_rate = 0.1
    config.lr_scheduler = "constant"

    config.batch_size = 64
    config.num_epochs = 30
    return config
