"""Which backends a test runs on: every one, unless the tables here say otherwise.

What no backend can change runs once (`--everywhere` runs it on any); what is about
some backends runs on these only. Of two entries that name a test the longer one holds.
"""

import keras
import pytest

BACKEND = keras.backend.backend()
EVERY = ("tensorflow", "jax", "torch")
# torch computes as it is called, which is quickest for small models.
QUICK = ("torch",)
# What TensorFlow reads, converts or writes runs where it is loaded anyway.
READS = ("tensorflow",)

ONCE = {
    # Configurations, counts, weights moved from model to model.
    "test_adapt.py": QUICK,
    "test_adapt.py::test_pieces_that_start_without_effect": EVERY,
    "test_config.py": QUICK,
    "test_config_fields.py": QUICK,
    "test_config_fields.py::test_many_fields_at_once": EVERY,
    "test_config_fields.py::test_gradients_of_many_fields": EVERY,
    "test_config_fields.py::test_answers_without_classes_are_called": READS,
    "test_config_fields.py::test_files_that_called_features_logits": READS,
    "test_config_fields.py::test_exports_of_many_fields": READS,
    "test_config_fields.py::test_int8_files_of_many_fields": READS,
    "test_encoder.py::test_a_part_that_steps_share_is_one_layer": QUICK,
    "test_encoder.py::test_a_part_is_of_a_block_before": QUICK,
    "test_encoder.py::test_which_block_holds_a_part": QUICK,
    "test_evaluation.py": QUICK,
    "test_evaluation.py::test_a_real_model_whatever_the_batch_size": EVERY,
    "test_evaluation.py::test_a_forward_pass_runs_as_the_model_is_compiled": EVERY,
    "test_families.py": QUICK,
    "test_flops.py": QUICK,
    "test_attention_map.py": QUICK,
    "test_attention_map.py::test_weights_are_those_of_numpy": EVERY,
    "test_attention_map.py::test_weights_of_what": EVERY,
    "test_attention_map.py::test_half_precision": ("tensorflow", "torch"),
    "test_groups.py": QUICK,
    "test_groups.py::test_the_orders_of": EVERY,
    "test_groups.py::test_prompts_of_an_image": EVERY,
    "test_groups.py::test_heads_that_are_looked_at": EVERY,
    "test_groups.py::test_half_precision": EVERY,
    "test_groups.py::test_files_of_groups": READS,
    "test_preprocessor.py": QUICK,
    "test_preprocessor.py::test_the_numbers_are_those_of_the_readers": EVERY,
    "test_preprocessor.py::test_in_tf_data": ("tensorflow", "torch"),
    "test_preprocessor.py::test_a_saved_model_takes": READS,
    "test_notebook.py": QUICK,
    # It is for TPUs, which JAX trains on.
    "test_notebook.py::test_it_runs_from_top_to_bottom": ("jax",),
    "test_package.py": QUICK,
    "test_parallel_paths.py": QUICK,
    "test_parallel_paths.py::test_output_and_gradients": EVERY,
    "test_pieces_drawn.py::test_training_takes_one_copy": QUICK,
    "test_pieces_drawn.py::test_every_product_and_step": QUICK,
    "test_pieces_drawn.py::test_prompts_drop_entries": QUICK,
    "test_pieces_drawn.py::test_nothing_in_front": QUICK,
    "test_pieces_in_files.py": QUICK,
    "test_pieces_in_files.py::test_files_of_all_kinds": READS,
    "test_pieces_in_files.py::test_routers_that_steps_change": READS,
    "test_pieces_trained.py": QUICK,
    "test_pieces_trained.py::test_only_what_is_named_changes": EVERY,
    "test_minivit.py": QUICK,
    "test_minivit.py::test_mixes_and_keys_start": EVERY,
    "test_minivit.py::test_loop_and_remat": EVERY,
    "test_minivit.py::test_half_precision": ("tensorflow", "torch"),
    "test_minivit.py::test_files_are": READS,
    "test_frozen_parts.py": QUICK,
    "test_frozen_parts.py::test_what_is_frozen_stays": EVERY,
    "test_frozen_parts.py::test_it_may_change_after_compile": EVERY,
    # Those on every backend are about its step.
    "test_terms.py": QUICK,
    "test_terms.py::test_distillation_is_that_of_numpy": EVERY,
    "test_terms.py::test_consistency_is_symmetric": EVERY,
    "test_terms.py::test_three_batches": EVERY,
    "test_terms.py::test_the_total_is_what_is_reported": EVERY,
    "test_terms.py::test_no_file_and_no_count": EVERY,
    "test_terms.py::test_a_second_pass_draws": EVERY,
    "test_terms.py::test_frozen_parts_stay": EVERY,
    "test_terms.py::test_all_that_training_does": EVERY,
    "test_terms.py::test_a_fit_that_fails": EVERY,
    "test_terms.py::test_a_teacher_on_other_devices": ("jax",),
    "test_relations.py": QUICK,
    "test_relations.py::test_both_are_those_of_numpy": EVERY,
    "test_relations.py::test_a_token_of_nothing": EVERY,
    "test_relations.py::test_three_batches": EVERY,
    "test_on_logits.py": QUICK,
    "test_on_logits.py::test_other_kinds_of_labels_train": EVERY,
    "test_moved.py": QUICK,
    "test_public.py": QUICK,
    "test_quantize.py::test_a_compiled_model_forgets": QUICK,
    "test_quantize.py::test_a_quantised_model_is_saved": QUICK,
    "test_quantize.py::test_attention_and_experts_are_int8": QUICK,
    "test_quantize.py::test_products_in_half_precision": QUICK,
    "test_quantize.py::test_int8_numbers": QUICK,
    "test_quantize.py::test_float16_holds": QUICK,
    "test_quantize.py::test_every_format": READS,
    "test_real_libraries.py": QUICK,
    "test_reference_weights.py": QUICK,
    "test_roles.py::test_a_quantised_model_keeps": QUICK,
    "test_tie.py": QUICK,
    "test_relax.py": QUICK,
    "test_relax.py::test_at_full_rank_on_every_backend": EVERY,
    "test_untie.py": QUICK,
    "test_untie.py::test_relaxed_models_on_every_backend": EVERY,
    "test_latency.py": QUICK,
    "test_merge.py": QUICK,
    "test_merge.py::test_a_bank_becomes_its_mean": EVERY,
    "test_prune.py": QUICK,
    "test_prune.py::test_every_backend_chooses": EVERY,
    "test_prune.py::test_devices_see": READS,
    "test_extract.py": QUICK,
    "test_nested.py": QUICK,
    "test_nested.py::test_the_first_part": EVERY,
    "test_nested.py::test_equal_neighbours": ("jax",),
    "test_nested.py::test_exports": READS,
    "test_ring.py": QUICK,
    "test_ring.py::test_answers": EVERY,
    "test_ring.py::test_gradients": EVERY,
    "test_ring.py::test_exports": READS,
    "test_prune_prompts.py": QUICK,
    "test_prune_prompts.py::test_a_segment_is_worth": EVERY,
    "test_weight_files.py": QUICK,
    # Files, commands, pages, pictures, the programs beside the package.
    "test_benchmarks.py": QUICK,
    "test_benchmarks.py::test_compile_time": ("tensorflow", "torch"),
    "test_benchmarks.py::test_exports": READS,
    "test_benchmarks.py::test_pruned": READS,
    "test_cli.py": QUICK,
    "test_cli.py::test_a_broken_image_stops_or_is_left_out": READS,
    "test_cli.py::test_a_process_of_its_own": READS,
    "test_cli.py::test_evaluate_prints_and_writes": EVERY,
    "test_cli_conversions.py": QUICK,
    "test_cli_export.py": QUICK,
    "test_cli_start.py": QUICK,
    "test_collect.py": QUICK,
    "test_commands.py": QUICK,
    "test_files.py": QUICK,
    "test_fuzz.py::test_command_lines": QUICK,
    "test_fuzz_widenet.py": QUICK,
    "test_idea.py": QUICK,
    "test_keras_habits.py::test_features_of_a_step_take": QUICK,
    "test_keras_hub_contract.py": QUICK,
    "test_keras_habits.py::test_lists_and_dicts_are_data": QUICK,
    "test_keras_habits.py::test_shapes_that_a_data_set_does_not_tell": QUICK,
    "test_plot.py": QUICK,
    "test_preset_folders.py": QUICK,
    "test_plain_errors.py": QUICK,
    "test_epoch_lines.py": QUICK,
    "test_epoch_lines.py::test_a_line_per_epoch": ("tensorflow", "torch"),
    "test_epoch_lines.py::test_what_is_not_compiled": READS,
    "test_readme.py": QUICK,
    "test_snippets.py": QUICK,
    "test_recipes.py": QUICK,
    "test_resume.py::test_a_killed_run_ends_where": QUICK,
    "test_resume.py::test_a_damaged_checkpoint_costs_an_epoch": QUICK,
    "test_recipes.py::test_the_imagenet_recipe_goes_on_where_it_was_killed": EVERY,
    "test_recipes.py::test_a_run_with_a_teacher_goes_on": EVERY,
    "test_report_page.py": QUICK,
    "test_reports.py": QUICK,
    "test_reports.py::test_what_is_looked_at": EVERY,
    "test_results.py": QUICK,
    "test_resume.py::test_the_older_checkpoint_is_taken": QUICK,
    "test_resume.py::test_a_checkpoint_that_cannot_be_read_now": QUICK,
    "test_resume.py::test_two_damaged_checkpoints": QUICK,
    "test_resume.py::test_what_a_run_cannot_go_on_with": QUICK,
    "test_resume.py::test_a_run_may_become": QUICK,
    "test_resume.py::test_a_second_run_in_a_folder": QUICK,
    "test_resume.py::test_a_process_that_was_forked": QUICK,
    "test_resume.py::test_a_folder_that_cannot_be_written": QUICK,
    "test_resume.py::test_a_checkpoint_whose_classes_stood": QUICK,
    "test_resume.py::test_class_names_that_are_not_utf_8": QUICK,
    "test_resume.py::test_kills_at_random": QUICK,
    "test_resume.py::test_a_disk_that_is_full": QUICK,
    "test_routing.py::test_experts_may_change_places": QUICK,
    "test_routing.py::test_as_many_experts_as_groups": QUICK,
    "test_routing.py::test_room_that_stays": QUICK,
    "test_routing_pictures.py": QUICK,
    "test_speed_figures.py": QUICK,
    "test_structure.py": QUICK,
    "test_from_weights.py": QUICK,
    "test_to_timm.py": QUICK,
    "test_study.py": QUICK,
    "test_systems.py": QUICK,
    # Sources and batches.
    "test_augmentation.py": READS,
    "test_data.py": QUICK,
    "test_data_arrays.py::test_images_of_which_none": QUICK,
    "test_data.py::test_scale_pixels_of_a_tensor": EVERY,
    "test_data_benchmark.py": READS,
    "test_data_decoding.py": READS,
    "test_data_parts.py": READS,
    "test_names.py": QUICK,
    "test_names.py::test_labels_of_records_are_mapped": READS,
    "test_data_tfds.py": READS,
    "test_image_files.py": READS,
    "test_pipeline.py": READS,
    "test_pipeline.py::test_fit_takes_the_stream": EVERY,
    "test_sources.py": READS,
    # Exports, and files that somebody damaged.
    "test_agreement.py": QUICK,
    "test_cli_export.py::test_all_formats_predict_alike": READS,
    "test_damage.py": READS,
    "test_exports.py::test_a_quantised_model_is_held_to_its_rounding": READS,
    "test_exports.py::test_pixels_to_compare_on_are_scaled": QUICK,
    "test_exports_digits.py": READS,
    "test_exports_digits.py::test_answers_of_keras_files": QUICK,
    "test_serve_jpeg.py": READS,
    "test_strangers.py": READS,
}
ONLY = {
    # Each is about what one backend does on an accelerator.
    "test_accelerators.py::test_the_kernel_of_attention": ("jax",),
    "test_accelerators.py::test_the_place_of_a_device": ("jax",),
    "test_accelerators.py::test_attention_padded_to_an_even_length": ("jax",),
    "test_accelerators.py::test_steps_that_are_taken_one_by_one": ("jax",),
    "test_accelerators.py::test_what_a_step_of_a_loop_keeps": ("jax",),
    "test_accelerators.py::test_bytes_that_a_program_moves": ("jax",),
    "test_accelerators.py::test_random_bits_of_an_entry": ("jax",),
    "test_accelerators.py::test_grouped_products_of_tokamax": ("jax",),
    "test_accelerators.py::test_a_layer_inside_xla": READS,
    "test_accelerators.py::test_a_classifier_inside_xla": READS,
    "test_accelerators.py::test_seeds_are_counted": QUICK,
    "test_accelerators.py::test_a_training_step_hardly_waits": QUICK,
    "test_accelerators.py::test_a_mixture_of_experts_adds": QUICK,
    "test_accelerators.py::test_grouped_runs_give": QUICK,
    "test_accelerators.py::test_a_program_draws_the_masks": QUICK,
    "test_accelerators.py::test_masks_of_sites_steps_and_seeds": ("jax", "torch"),
    "test_accelerators.py::test_compiled": QUICK,
    "test_accelerators.py::test_steps_are_cut_so": QUICK,
    "test_accelerators.py::test_the_hash_is_that_of_jax": ("jax",),
    "test_accelerators.py::test_a_step_that_does_not_compile": QUICK,
    "test_bad_input.py::test_labels_outside_the_classes_inside_a_graph": READS,
    "test_bad_input.py::test_weights_inside_a_graph": READS,
    # torch compiles no loops, and its `torch.compile` takes minutes.
    "test_depth.py::test_programs_do_not_grow_with_the_depth": ("tensorflow", "jax"),
    "test_depth.py::test_programs_of_private_parts": ("jax",),
    "test_training.py::test_jit_compile_on_gives_the_same_weights": (
        "tensorflow",
        "jax",
    ),
    # Keras exports images of sizes that are not known on TensorFlow only.
    "test_preprocessor.py::test_a_saved_model_takes": READS,
    # TensorFlow does not tell what it keeps.
    "test_depth.py::test_remat_keeps_less": ("jax", "torch"),
    # XLA is a choice on TensorFlow only; torch has no `keras.distribution`.
    "test_engine_choice.py::test_devices_that_share_a_batch": ("tensorflow", "jax"),
    "test_engine_choice.py::test_jit_compile_takes_static_engines": READS,
    # Launchers and their variables are each backend's own.
    "test_distribution.py::test_a_device_computes_its_part": ("jax",),
    "test_distribution.py::test_torchrun_ends_all_with_a_line": ("torch",),
    "test_distribution.py::test_jobs_that_nobody_started": ("tensorflow", "torch"),
    "test_distribution.py::test_a_chief_comes_before": READS,
    "test_distribution.py::test_losses_that_replicas_cannot_share": (
        "tensorflow",
        "torch",
    ),
    # On the others two processes compile for long; the slow test has them.
    "test_distribution.py::test_scaled_gradients_are_not_clipped_apart": READS,
    "test_distribution.py::test_what_overflows_on_one_device": READS,
    "test_distribution.py::test_a_loss_of_one_number": READS,
    "test_distribution.py::test_experts_over_a_part": ("jax",),
    "test_distribution.py::test_a_keras_that_shares_torch_batches": ("torch",),
    # Everything but `.keras` is written by TensorFlow; others start a process of it.
    "test_exports.py::test_exports_agree_with_the_model": READS,
    "test_exports.py::test_fields_that_are_not_the_defaults": READS,
    "test_exports.py::test_other_backends_export_through_tensorflow": ("jax", "torch"),
    "test_exports.py::test_a_lower_precision_and_a_fixed_engine": READS,
    "test_exports.py::test_a_fixed_batch_and_pixels": READS,
    "test_exports.py::test_the_signatures_of_a_saved_model": READS,
    "test_exports.py::test_the_routers_of_int8_files_stay_in_float": READS,
    "test_exports.py::test_experts_are_cut_out_once": READS,
    "test_exports.py::test_weights_are_stored_once": READS,
    "test_exports.py::test_smaller_weights_are_stored_once": READS,
    "test_exports.py::test_litert_has_builtin_operators_only": READS,
    "test_exports.py::test_quantised_litert_has_builtin_operators_only": READS,
    "test_exports.py::test_onnx_states_its_opset": READS,
    "test_exports.py::test_experts_that_nobody_chose": READS,
    "test_exports.py::test_a_failed_check_keeps_the_old_file": READS,
    "test_exports.py::test_what_fails_in_the_other_process": ("torch",),
    "test_exports.py::test_an_earlier_export_and_an_empty_folder": READS,
    "test_exports.py::test_what_a_user_said_of_precision_stays": ("torch",),
    "test_exports.py::test_the_report_reads_well": READS,
    "test_pieces.py::test_pieces_are_exported": READS,
    "test_optimizers.py::test_all_at_once_is_one_by_one": ("torch",),
    "test_prune.py::test_devices_see": READS,
}


# What an accelerator may answer otherwise than a CPU, by other kernels; what is slow is
# left out. `-m accelerator` runs these, on a CPU too.
ACCELERATOR = (
    "test_accelerators.py",
    "test_attention.py",
    "test_auxiliary_loss.py",
    "test_contract.py::test_outputs_are_finite",
    "test_dispatch.py",
    "test_expert_runs.py",
    "test_routing.py",
)


def _entry(table, name):
    """Returns the backends of the longest entry that names a test, or every one."""
    found = [entry for entry in table if name.startswith(entry)]
    return table[max(found, key=len)] if found else EVERY


def pytest_addoption(parser):
    parser.addoption(
        "--everywhere",
        action="store_true",
        help="also run, on this backend, what runs once on another one",
    )


def pytest_ignore_collect(collection_path, config):
    """Does not even import a file of which nothing runs here."""
    name = collection_path.name
    if config.getoption("everywhere") or BACKEND in ONCE.get(name, EVERY):
        return None
    inner = any(e.startswith(f"{name}::") and BACKEND in ONCE[e] for e in ONCE)
    return None if inner else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leaves out what runs on other backends."""
    once = {} if config.getoption("everywhere") else ONCE
    here, elsewhere = [], []
    for item in items:
        name = f"{item.path.name}::{item.originalname}"
        runs = BACKEND in _entry(once, name) and BACKEND in _entry(ONLY, name)
        (here if runs else elsewhere).append(item)
        if name.startswith(ACCELERATOR) and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.accelerator)
    items[:] = here
    config.hook.pytest_deselected(items=elsewhere)
