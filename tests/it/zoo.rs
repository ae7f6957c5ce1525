//! Networks of full size, written as torch's exporters would.

use updp_ir::Model;
use updp_passes::blocks::BlockKind;
use updp_passes::{pipeline, surgery};
use updp_testkit::{Limit, Proof, find_ort, node_total, op_counts, prove_network, signature, skip};
use updp_zoo::{Dialect, Network, Options};

use crate::compile::compile;

fn built(network: Network, dialect: Dialect) -> Model {
    network.build(&Options::new(dialect)).expect("well formed")
}

/// Compiles and checks signature and node counts before and after.
fn ends_with(network: Network, dialect: Dialect, before: usize, after: usize) -> (Model, Model) {
    let was = built(network, dialect);
    let mut is = built(network, dialect);
    let name = network.file_name(&Options::new(dialect));
    compile(&mut is);
    let total = node_total(&was.graph);
    assert_eq!(total, before, "{name}: {:?}", op_counts(&was.graph));
    assert_eq!(node_total(&is.graph), after, "{name}: {:?}", op_counts(&is.graph));
    assert_eq!(signature(&was), signature(&is), "{name}");
    (was, is)
}

#[test]
fn repvgg_a0_ends_with_47_nodes() {
    let (before, after) = ends_with(Network::RepVggA0, Dialect::LegacyPreserve, 169, 47);
    let (folded, folded_after) = ends_with(Network::RepVggA0, Dialect::LegacyEval, 125, 47);
    if find_ort().is_none() {
        return skip("repvgg_a0_ends_with_47_nodes (execution)", "no ONNX Runtime library");
    }
    prove_network(&before, &after);
    prove_network(&folded, &folded_after);
}

#[test]
fn mobileone_s0_ends_with_89_nodes() {
    let (before, after) = ends_with(Network::MobileOneS0, Dialect::LegacyPreserve, 704, 89);
    let (folded, folded_after) = ends_with(Network::MobileOneS0, Dialect::LegacyEval, 513, 89);
    let (dynamo, dynamo_after) = ends_with(Network::MobileOneS0, Dialect::Dynamo, 455, 89);
    if find_ort().is_none() {
        return skip("mobileone_s0_ends_with_89_nodes (execution)", "no ONNX Runtime library");
    }
    prove_network(&before, &after);
    prove_network(&folded, &folded_after);
    prove_network(&dynamo, &dynamo_after);
}

#[test]
fn every_network_in_every_dialect_keeps_its_signature_and_loses_its_norms() {
    // DeiT-S and the wide MobileNetV2 are the same graphs as their smaller siblings.
    let twins = [Network::DeitSmall, Network::MobileNetV2Timm140];
    for network in Network::ALL.into_iter().filter(|network| !twins.contains(network)) {
        for dialect in network.dialects() {
            let before = built(network, dialect);
            let mut after = built(network, dialect);
            compile(&mut after);
            let name = network.file_name(&Options::new(dialect));
            let counts = op_counts(&after.graph);
            println!("{name}: {} -> {}", node_total(&before.graph), node_total(&after.graph));
            assert_eq!(signature(&before), signature(&after), "{name}");
            assert!(!counts.contains_key("BatchNormalization"), "{name}: {counts:?}");
        }
    }
}

#[test]
fn light_networks_stay_the_same_function() {
    if find_ort().is_none() {
        return skip("light_networks_stay_the_same_function", "no ONNX Runtime library");
    }
    let light = [Network::ResNet18, Network::MobileNetV2, Network::DeitTiny];
    for network in light {
        for dialect in network.dialects() {
            let before = built(network, dialect);
            let mut after = built(network, dialect);
            compile(&mut after);
            let proof = Proof {
                limit: Limit::WholeNetwork,
                runs: 1,
                one_runtime: true,
                ..Proof::default()
            };
            println!("{}", network.file_name(&Options::new(dialect)));
            proof.assert(&before, &after);
        }
    }
}

/// Blocks of each network: how many, and of which kind.
fn blocks(network: Network) -> (usize, BlockKind) {
    match network {
        Network::ResNet18 => (8, BlockKind::Basic),
        Network::ResNet34 => (16, BlockKind::Basic),
        Network::MobileNetV2 | Network::MobileNetV2Timm100 | Network::MobileNetV2Timm140 => {
            (17, BlockKind::InvertedResidual)
        }
        // The first one lies over a pool and is only fitted.
        Network::Vgg11Bn => (4, BlockKind::Chain),
        Network::ConvNextTiny | Network::ConvNextTinyTimm => (18, BlockKind::ConvNext),
        Network::DeitTiny | Network::DeitSmall => (12, BlockKind::VitLayer),
        Network::RepVggA0 => (10, BlockKind::Chain),
        Network::MobileOneS0 => (21, BlockKind::Chain),
    }
}

#[test]
fn every_network_shows_the_same_blocks_in_every_dialect() {
    for network in Network::ALL {
        let (count, kind) = blocks(network);
        for dialect in network.dialects() {
            let mut model = built(network, dialect);
            pipeline::prepare(&mut model).expect("well formed");
            let found = surgery::blocks_of(&model).expect("no cycle");
            let kinds: Vec<BlockKind> = found.iter().map(|block| block.kind).collect();
            let wanted = match kind {
                BlockKind::VitLayer => [BlockKind::Attention, kind].repeat(count),
                _ => vec![kind; count],
            };
            assert_eq!(kinds, wanted, "{}", network.file_name(&Options::new(dialect)));
            assert!(found.iter().all(|block| block.refusal.is_none()));
        }
    }
}
