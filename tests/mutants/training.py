"""Breaks between a config and its training: the step, the data, pruning, evaluation."""

from mutant import Mutant

RUN = "tests/test_wiring.py::test_a_run_is_what_its_config_says"
NESTEROV, ADAM, ADAMW, PRUNED, ONE_PASS = (
    f"{RUN}[{case}]"
    for case in (
        "nesterov-microbatch-clip",
        "adam-adaptive",
        "adamw-layerwise-segments",
        "own-pruned",
        "one-pass",
    )
)
CHANCE = "tests/test_wiring.py::test_chance_is_drawn_anew_for_each_step_and_not_in_evaluation"
HELD, STREAMED = f"{CHANCE}[resident]", f"{CHANCE}[streamed]"
MEMORY = "tests/test_wiring.py::test_no_more_examples_are_in_memory_than_the_config_says"

OPTIMIZER = "**_shipped_fields(optimizers.build, fields),"


def _with(field: str, value: str) -> str:
    """Give the optimizer another value of a field."""
    return f"**_shipped_fields(optimizers.build, fields) | {{'{field}': {value}}},"


MUTANTS = (
    # The step.
    Mutant(
        "rho follows the learning-rate schedule",
        "variant(0 if one_pass else rho),",
        "variant(0 if one_pass else rho * schedule(state.step)),",
        (PRUNED,),
    ),
    Mutant(
        "the schedule is a step ahead",
        "values.learning_rate * schedule(state.step)",
        "values.learning_rate * schedule(state.step + 1)",
        (ADAM,),
    ),
    Mutant(
        "the logged learning rate is not the one of the step",
        '{"loss": loss, "learning_rate": learning_rate}',
        '{"loss": loss, "learning_rate": values.learning_rate}',
        (ADAM,),
    ),
    Mutant(
        "one dropout mask for all steps",
        'jax.random.fold_in(streams.key(values.seed, "dropout"), state.step)',
        'streams.key(values.seed, "dropout")',
        (HELD,),
    ),
    Mutant(
        "dropout ignores the seed",
        'jax.random.fold_in(streams.key(values.seed, "dropout"), state.step)',
        'jax.random.fold_in(streams.key(0, "dropout"), state.step)',
        (HELD,),
    ),
    Mutant(
        "one augmentation for all steps",
        'jax.random.fold_in(streams.key(values.seed, "augmentation"), state.step)',
        'streams.key(values.seed, "augmentation")',
        (HELD,),
    ),
    Mutant(
        "augmentation ignores the seed",
        'streams.key(values.seed, "augmentation")',
        'streams.key(0, "augmentation")',
        (HELD,),
    ),
    Mutant(
        "no augmentation in training",
        "workload.prepare(batch, augmentation, train=True)",
        "workload.prepare(batch, augmentation, train=False)",
        (HELD,),
    ),
    Mutant(
        "training in evaluation mode",
        'apply(params, stats, examples["inputs"], train=True, key=key)',
        'apply(params, stats, examples["inputs"], train=False, key=key)',
        (HELD,),
    ),
    Mutant(
        "pruned weights have gradients",
        "keep_sharded(params, parameter_sharding), state.mask)",
        "keep_sharded(params, parameter_sharding), None)",
        (PRUNED,),
    ),
    Mutant(
        "functional SAM moves the criterion too",
        "clean_params=params",
        "clean_params=perturbed",
        ("tests/sam/test_rules.py::test_functional_sam_moves_the_jacobian_and_not_the_criterion",),
    ),
    Mutant(
        "batch statistics stay as they were",
        "params=params,\n            stats=stats,\n            optimizer=optimizer_state,",
        "params=params,\n            stats=state.stats,\n            optimizer=optimizer_state,",
        (HELD,),
    ),
    Mutant(
        "the optimizer forgets its moments",
        "optimizer=optimizer_state,",
        "optimizer=state.optimizer,",
        (ADAM,),
    ),
    Mutant("no weight decay", "state.params, values.weight_decay)", "state.params, 0.0)", (ADAM,)),
    Mutant("adam decays as adamw does, and adamw as adam", 'if name == "adamw":', 'if name == "adam":', (ADAM, ADAMW)),
    Mutant(
        "warm-up begins a step late",
        "jnp.minimum(1, _ratio(step, warmup_steps))",
        "jnp.minimum(1, _ratio(step + 1, warmup_steps))",
        (ADAM,),
    ),
    # From the config to the step.
    Mutant(
        "microbatches are split over the devices, not dealt to them",
        "sharding=None if shard_parameters else sharding,",
        "sharding=None,",
        (
            "tests/runs/test_sharding.py::test_a_sharded_state_has_the_numbers_of_a_replicated_one_and_comes_back_from_its_checkpoint",
        ),
    ),
    Mutant("no microbatches", 'microbatch=fields["microbatch"]', "microbatch=None", (NESTEROV,)),
    Mutant("no accumulation", 'accumulation_steps=fields["accumulation_steps"]', "accumulation_steps=1", (MEMORY,)),
    Mutant("no momentum", OPTIMIZER, _with("momentum", "0.0"), (PRUNED,)),
    Mutant("no nesterov", OPTIMIZER, _with("nesterov", "False"), (NESTEROV,)),
    Mutant("betas at their defaults", OPTIMIZER, _with("adam_betas", "(0.9, 0.999)"), (ADAM,)),
    Mutant("epsilon at its default", OPTIMIZER, _with("adam_epsilon", "1e-8"), (ADAM,)),
    Mutant("no clipping", OPTIMIZER, _with("gradient_clip", "None"), (NESTEROV, ONE_PASS)),
    Mutant(
        "no warm-up",
        "_shipped_fields(schedules.build, fields))",
        '_shipped_fields(schedules.build, fields) | {"warmup_steps": 0})',
        (ADAM,),
    ),
    Mutant(
        "normalized whatever the variant",
        "return functools.partial(builder, **fields_for(builder, config))",
        "return sam.normalized",
        (ADAM,),
    ),
    Mutant(
        "ascent where there is none",
        'mode = {"one_pass": one_pass,',
        'mode = {"one_pass": False,',
        (MEMORY, "tests/runs/test_experiment.py::test_runs_that_differ_in_words_or_values_share_a_step"),
    ),
    Mutant(
        "the model's fields at their defaults",
        "model = builder(jax.tree.unflatten(structure, leaves), num_outputs, **dict(fields))",
        "model = builder(jax.tree.unflatten(structure, leaves), num_outputs)",
        (ADAM,),
    ),
    Mutant("no linearization", 'if config["linearized"]:', "if False:", ("tests/models/test_lazy.py",)),
    Mutant(
        "the outputs are not scaled",
        'return model if config["output_scale"] is None else',
        "return model if True else",
        ("tests/models/test_lazy.py",),
    ),
    Mutant(
        "the loss of scaled outputs is not scaled",
        "objectives.scale_loss(objective, scale**-2)",
        "objective",
        ("tests/models/test_lazy.py",),
    ),
    Mutant(
        "another rho than the one of the config",
        "rho=number(configs.effective_rho(config), real)",
        'rho=number(config["rho"] + 0.1, real)',
        (ADAM,),
    ),
    Mutant("the program ignores the seed", 'seed=number(config["seed"], np.uint32)', "seed=np.uint32(0)", (ADAM,)),
    # Data.
    Mutant(
        "validation examples are trained on",
        "train, validation = data.hold_out(",
        "_, validation = data.hold_out(",
        (ADAM,),
    ),
    Mutant(
        "the validation split ignores the seed",
        'config["validation_fraction"], seed=config["seed"])',
        'config["validation_fraction"], seed=0)',
        (ADAM,),
    ),
    Mutant(
        "the subset ignores the seed",
        'data.subset(train, config["train_examples"], seed=config["seed"])',
        'data.subset(train, config["train_examples"], seed=0)',
        (ADAM,),
    ),
    Mutant(
        "label noise ignores the seed",
        'config["label_noise"], num_classes=dataset.num_outputs, seed=config["seed"])',
        'config["label_noise"], num_classes=dataset.num_outputs, seed=0)',
        (ADAM,),
    ),
    Mutant(
        "test labels are noisy",
        "test=dataset.test,",
        'test=data.add_label_noise(dataset.test, config["label_noise"], num_classes=10, seed=0),',
        (ADAM,),
    ),
    Mutant(
        "initial weights ignore the seed",
        'return streams.key(seed, "weights")',
        'return streams.key(0, "weights")',
        (ADAM,),
    ),
    Mutant(
        "the order ignores the seed",
        'streams.key(seed, "order"), epoch)\n        order = streams.permutation(key, self.num_examples)',
        'streams.key(0, "order"), epoch)\n        order = streams.permutation(key, self.num_examples)',
        (ADAM,),
    ),
    Mutant(
        "every epoch in the same order",
        'jax.random.fold_in(streams.key(seed, "order"), epoch)\n        order = streams.permutation(key, self',
        'streams.key(seed, "order")\n        order = streams.permutation(key, self',
        (ADAM,),
    ),
    Mutant("a stream's epochs in the same order", "(np.uint32(seed), epoch))", "(np.uint32(seed), 0))", (STREAMED,)),
    Mutant(
        "a resumed stream restarts its epoch",
        "epoch=epoch, train=True, first_batch=within\n            )\n            self._seed",
        "epoch=epoch, train=True, first_batch=0\n            )\n            self._seed",
        ("tests/runs/test_experiment.py::test_a_stream_trains_stops_and_resumes_with_the_same_numbers",),
    ),
    # Pruning.
    Mutant(
        "the mask ignores the seed",
        'key=streams.key(config["seed"], "mask"),',
        'key=streams.key(0, "mask"),',
        ("tests/runs/test_experiment.py::test_a_seed_decides_everything",),
    ),
    Mutant(
        "the densities of layers at their default",
        '            layer_density=config["layer_density"],',
        "            layer_density=None,",
        ("tests/runs/test_experiment.py::test_sparsity_is_exact_for_every_pruner",),
    ),
    Mutant(
        "SNIP sees one batch",
        'for step in range(config["snip_batches"])',
        "for step in range(1)",
        ("tests/runs/test_experiment.py::test_snip_draws_apart_for_each_use_and_batch_and_compiles_once",),
    ),
    # Evaluation.
    Mutant(
        "evaluation in training mode",
        "workloads.score(workload, params, state.stats, batch, train=False, key=None)[0]",
        "workloads.score(workload, params, state.stats, batch, train=True, key=jax.random.key(0))[0]",
        (HELD,),
    ),
    Mutant(
        "evaluation on augmented examples",
        "batch = workload.prepare(batch, None, train=False)\n        return workloads.score(",
        "batch = workload.prepare(batch, jax.random.key(0), train=True)\n        return workloads.score(",
        (HELD,),
    ),
    Mutant(
        "examples that complete the last batch are scored twice",
        "leaf.reshape(-1, *leaf.shape[2:])[: self.num_scored], scores)",
        "leaf.reshape(-1, *leaf.shape[2:]), scores)",
        ("tests/training/test_evaluate.py",),
    ),
    Mutant(
        "examples that complete a stream's last batch are scored twice",
        "np.concatenate(leaves)[:num_scored]",
        "np.concatenate(leaves)",
        ("tests/training/test_evaluate.py::test_a_stream_is_scored_as_what_is_held",),
    ),
    Mutant(
        "the loss of a split is a mean over examples, whatever their weights",
        "total / float(np.sum(weights)) if",
        "total / len(weights) if",
        ("tests/runs/test_experiment.py::test_a_users_own_sequence_model_with_padding_trains_from_its_file",),
    ),
    Mutant("steps_per_eval is ignored", "min(total, num_batches * batch_size)", "total", (ADAMW,)),
    Mutant(
        "the last evaluation is of some batches only",
        "of(name, None if is_last else limit)",
        "of(name, limit)",
        (ADAMW,),
    ),
    Mutant(
        "pieces of a batch weigh alike, whatever they hold",
        "weigh=lambda examples: jnp.sum(workload.objective.weights(examples))",
        "weigh=None",
        ("tests/runs/test_experiment.py::test_sparsity_and_pieces_work_on_a_users_own_model",),
    ),
    Mutant(
        "the ascent forgets its state",
        "ascent=ascent,",
        "ascent=state.ascent,",
        (PRUNED,),
    ),
    Mutant(
        "the variant's fields at their defaults",
        "functools.partial(builder, **fields_for(builder, config))",
        "functools.partial(builder)",
        (PRUNED,),
    ),
    Mutant(
        "the objective's fields at their defaults",
        "    fields = fields_for(builder, config)\n    objective = builder(",
        "    fields = {}\n    objective = builder(",
        ("tests/test_wiring.py::test_fields_reach_what_declares_them",),
    ),
    Mutant(
        "the data set's fields at their defaults",
        "tuple(fields_for(dataset_builder(config), config).items())",
        "()",
        ("tests/test_wiring.py::test_fields_reach_what_declares_them",),
    ),
    Mutant(
        "sgd ascends by the rho of its config",
        'return config["rho"] if config["optimizer"] == "sam" else 0.0',
        'return config["rho"]',
        ("tests/runs/test_experiment.py::test_runs_that_differ_in_words_or_values_share_a_step",),
    ),
    Mutant(
        "SAM takes the steps of sgd",
        'config["base_optimizer"] if config["optimizer"] == "sam" else config["optimizer"]',
        '"sgd" if config["optimizer"] == "sam" else config["optimizer"]',
        (ADAM,),
    ),
    Mutant(
        "a stream's augmentation ignores the seed",
        'streams.generator(seed, "augmentation", epoch, source)',
        'streams.generator(0, "augmentation", epoch, source)',
        ("tests/data/test_splits.py::test_seed_and_epoch_change_the_draws",),
    ),
    Mutant(
        "a stream's augmentation is the same in every epoch",
        'streams.generator(seed, "augmentation", epoch, source)',
        'streams.generator(seed, "augmentation", source)',
        ("tests/data/test_splits.py::test_seed_and_epoch_change_the_draws",),
    ),
    # Games.
    Mutant(
        "a network draws the same actions in every epoch",
        'jax.random.fold_in(streams.key(values.seed, "actions"), state.step // self.steps_per_epoch)',
        'streams.key(values.seed, "actions")',
        ("tests/training/test_rollouts.py::test_actions_are_drawn_anew_in_each_epoch",),
    ),
    Mutant(
        "actions ignore the seed",
        'jax.random.fold_in(streams.key(values.seed, "actions"), state.step // self.steps_per_epoch)',
        'jax.random.fold_in(streams.key(0, "actions"), state.step // self.steps_per_epoch)',
        ("tests/training/test_rollouts.py::test_other_seeds_play_other_games",),
    ),
    Mutant(
        "games begin alike at every seed",
        'streams.key(seed, "games")',
        'streams.key(0, "games")',
        ("tests/training/test_rollouts.py::test_other_seeds_begin_other_games",),
    ),
    Mutant(
        "the clip ratio does not fall",
        '"clip_factor": self.schedule(state.step)',
        '"clip_factor": 1.0',
        ("tests/training/test_rollouts.py::test_the_clip_ratio_falls_with_the_learning_rate_and_each_epoch_plays_on",),
    ),
    Mutant(
        "test games are drawn from the training split's stream",
        'streams.key(self.split.seed, "test games")',
        'streams.key(0, "test games")',
        (
            "tests/training/test_rollouts.py::test_test_games_are_the_same_for_all_seeds_and_not_those_of_the_training_split",
        ),
    ),
)
