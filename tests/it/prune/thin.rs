//! Blocks that keep some of their hidden channels, in the fixtures.

use std::collections::BTreeMap;

use updp_ir::Model;
use updp_passes::blocks::BlockKind;
use updp_passes::pipeline;
use updp_passes::surgery::{self, Fitted, Shrink, Site};
use updp_testkit::read_model;

use super::{FIXTURES, fixture, networks, prepared};
use crate::compile::merge_all;

/// Blocks with a thin form in all fixtures, by kind: basic, inverted residuals, ConvNeXt, transformer layers, attention,
/// chains.
const COUNTS: [usize; 6] = [30, 21, 55, 26, 26, 11];

/// One thin site of each block that has any; the blocks take different shares.
fn thin_sites(model: &Model) -> Vec<Site> {
    let blocks = surgery::blocks_of(model).expect("no cycle");
    surgery::with_context(model, |cx| {
        let of = |block| {
            let all = surgery::sites(cx, block, Shrink::Auto).into_iter();
            let thin: Vec<Site> = all
                .filter(|(form, _)| form.is_thin())
                .map(|(_, site)| site.expect("only sites that exist are listed"))
                .collect();
            thin.get(block.index % thin.len().max(1)).cloned()
        };
        blocks.iter().filter_map(of).collect()
    })
}

/// The channels that stay, spread over the hidden ones; of attention, those of whole heads.
fn spread(site: &Site) -> Vec<usize> {
    let thin = site.thin.expect("a thin site");
    let (kept, all) = (thin.kept / thin.group, site.in_channels / thin.group);
    let spread = (0..kept).map(|at| (at * all + all / 2) / kept);
    spread.flat_map(|at| at * thin.group..(at + 1) * thin.group).collect()
}

/// The networks with the hidden channels that do not stay: given no weight, and removed.
fn dead_and_thin(model: &Model, sites: &[Site]) -> (Model, Model) {
    let (mut dead, mut thin) = (model.clone(), model.clone());
    for site in sites {
        let kept = spread(site);
        let mut map =
            surgery::with_context(model, |cx| surgery::thin_map(cx, site)).expect("there");
        assert_eq!(map.in_channels(), site.in_channels, "{}", site.name);
        let all: Vec<usize> = (0..site.in_channels).collect();
        for (at, weight) in map.weight.indexed_iter_mut() {
            *weight *= f64::from(kept.contains(&at[1]));
        }
        let stand_in = surgery::stand_in(site).expect("a window");
        let Fitted::Thin { mut last, .. } = stand_in else { panic!("{}", site.name) };
        for (mut at, weight) in last.weight.indexed_iter_mut() {
            at[1] = kept[at[1]];
            *weight = map.weight[at];
        }
        last.bias.clone_from(&map.bias);
        for (network, kept, last) in [(&mut dead, all, map), (&mut thin, kept, last)] {
            surgery::substitute(network, site, &Fitted::Thin { kept, last })
                .unwrap_or_else(|error| panic!("{}: {error}", site.name));
            network.validate().unwrap_or_else(|error| panic!("{}: {error}", site.name));
        }
    }
    (dead, thin)
}

#[test]
fn hidden_channels_without_weight_leave_every_fixture_exactly() {
    let mut seen: BTreeMap<BlockKind, usize> = BTreeMap::new();
    for (name, _, kind) in FIXTURES {
        let model = prepared(name);
        let sites = thin_sites(&model);
        // Depthwise and pointwise: the channels between come from the block before.
        assert_eq!(sites.is_empty(), name.starts_with("timm_mobileone"), "{name}");
        if sites.is_empty() {
            continue;
        }
        let heads =
            sites.iter().filter(|site| site.thin.is_some_and(|thin| thin.group > 1)).count();
        *seen.entry(kind).or_default() += sites.len() - heads;
        *seen.entry(BlockKind::Attention).or_default() += heads;
        let (dead, thin) = dead_and_thin(&model, &sites);
        let original = read_model(&fixture(name));
        assert!(networks(1).check(&original, &dead).is_err(), "{name}: the channels matter");
        networks(2).check(&dead, &thin).unwrap_or_else(|report| panic!("{name}: {report}"));
        let mut merged = thin.clone();
        pipeline::compile(&mut merged, &merge_all(), &mut |_, _| ()).expect("well formed");
        networks(1).check(&thin, &merged).unwrap_or_else(|report| panic!("{name}: {report}"));
    }
    // Some blocks of the smallest networks have four hidden channels, or a depthwise and a pointwise convolution alone.
    let counts: Vec<usize> = seen.into_values().collect();
    assert_eq!(counts, COUNTS);
}

#[test]
fn a_thin_block_is_found_again_and_can_be_thinned_again() {
    for (name, ..) in FIXTURES {
        let model = prepared(name);
        let sites = thin_sites(&model);
        let (_, thin) = dead_and_thin(&model, &sites);
        let kinds = |model: &Model| -> Vec<(BlockKind, String)> {
            let blocks = surgery::blocks_of(model).expect("no cycle");
            blocks.into_iter().map(|block| (block.kind, block.name)).collect()
        };
        assert_eq!(kinds(&thin), kinds(&model), "{name}");
        let again: BTreeMap<usize, usize> =
            thin_sites(&thin).iter().map(|site| (site.block, site.in_channels)).collect();
        for site in sites {
            let thin = site.thin.expect("a thin site");
            // Four channels, or one head, are the fewest that stay.
            let least = if thin.group > 1 { thin.group } else { 4 };
            let offered = again.get(&site.block).copied();
            assert_eq!(offered, (thin.kept > least).then_some(thin.kept), "{name} {}", site.name);
        }
    }
}

#[test]
fn all_hidden_channels_with_their_own_weights_change_nothing() {
    for (name, ..) in FIXTURES {
        let model = prepared(name);
        let mut same = model.clone();
        for site in thin_sites(&model) {
            let last = surgery::with_context(&model, |cx| surgery::thin_map(cx, &site));
            let kept = (0..site.in_channels).collect();
            let fitted = Fitted::Thin { kept, last: last.expect("there") };
            surgery::substitute(&mut same, &site, &fitted).expect("it fits");
        }
        networks(1).check(&model, &same).unwrap_or_else(|report| panic!("{name}: {report}"));
    }
}
