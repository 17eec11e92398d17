"""The checks of the conformance kit: one function each, its sentence in the docstring, applied by what is declared.

A check gets a plugin's id or a record and raises AssertionError, with what is wrong and what to do, where the promise
is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segcore.specs import DecoderSpec, EncoderSpec
from segcore.testing import decoder_checks as d
from segcore.testing import encoder_checks as e
from segcore.testing import plugin_checks as p

PLUGIN_CHECKS: tuple[Callable[[str], None], ...] = (
    p.loads_without_warnings,
    p.listing_is_light,
    p.listing_is_quick,
    p.listing_is_silent,
    p.listing_touches_nothing,
    p.listing_leaves_settings_alone,
    p.records_are_the_same_everywhere,
    p.id_is_its_own,
    p.package_bounds_segcore,
    p.package_states_its_licence,
)
BUILDING_CHECKS: tuple[Callable[[str], None], ...] = (
    p.building_works_anywhere,
    p.building_is_silent,
    p.building_touches_nothing,
    p.building_leaves_settings_alone,
)
RECORD_CHECKS: tuple[Callable[[Any], None], ...] = (
    p.record_is_plain,
    p.name_is_free,
    p.aliases_reach_the_record,
    p.factory_is_found,
    p.options_are_explicit,
    p.options_fit_the_factory,
    p.defaults_are_plain,
)
LIGHT_ENCODER_CHECKS: tuple[Callable[[EncoderSpec], None], ...] = (
    e.features_match_the_record,
    e.odd_sizes_work,
    e.small_images_work,
    e.output_strides_hold,
    e.size_multiple_is_declared,
    e.parameters_are_counted,
    e.weights_are_pinned,
    e.encoder_keeps_no_loose_tensor,
    e.prefix_tokens_are_given,
)
HEAVY_ENCODER_CHECKS: tuple[Callable[[EncoderSpec], None], ...] = (
    e.evaluation_is_deterministic,
    e.evaluation_changes_nothing,
    e.flat_images_are_finite,
    e.every_parameter_learns,
    e.image_gets_a_gradient,
    e.one_image_trains,
    e.half_precision_runs,
    e.other_dtypes_run,
    e.channels_last_is_equal,
    e.copies_are_equal,
    e.weights_round_trip,
    e.weights_fit_every_depth,
    e.weights_fit_other_images,
    e.seed_decides_the_weights,
    e.instances_are_independent,
    e.builds_without_memory,
    e.compiles_whole,
    e.exports_whole,
)
DECODER_CHECKS: tuple[Callable[[DecoderSpec], None], ...] = (
    d.decoder_asks_for_no_name,
    d.masks_have_the_image_size,
    d.declared_output_is_given,
    d.decoder_parameters_learn,
    d.one_image_trains_the_decoder,
    d.decoder_builds_without_memory,
    d.wishes_are_plain,
    d.every_head_is_offered,
    d.any_image_will_do,
    d.decoder_is_deterministic,
    d.decoder_changes_nothing,
    d.features_are_left_alone,
    d.flat_features_are_finite,
    d.features_get_gradients,
    d.decoder_half_precision_runs,
    d.decoder_other_dtypes_run,
    d.decoder_channels_last_is_equal,
    d.decoder_copies_are_equal,
    d.decoder_weights_round_trip,
    d.decoder_seed_decides_the_weights,
    d.decoder_instances_are_independent,
    d.decoder_keeps_no_loose_tensor,
    d.decoder_compiles_whole,
    d.decoder_exports_whole,
)
GROUPS: dict[str, tuple[Callable[[Any], None], ...]] = {
    "A plugin": PLUGIN_CHECKS,
    "A plugin, when its networks are built": BUILDING_CHECKS,
    "Every record of an encoder or decoder": RECORD_CHECKS,
    "Every encoder": LIGHT_ENCODER_CHECKS,
    "The smallest encoder of each network": HEAVY_ENCODER_CHECKS,
    "Every decoder": DECODER_CHECKS,
}
