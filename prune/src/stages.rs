//! The numbered stages of pruning with images, as the observer hears of them.

use updp_trainer::observer::Observer;

use crate::config::{PruneConfig, Stage};

/// A stage of the whole job. The caller of [`prune`](crate::prune()) does the first and the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneStage {
    /// Scores the input model on a few images.
    ScoreInput,
    /// Reads the images and runs the input model over them.
    ReadData,
    /// Finds the blocks and measures them.
    ProfileBlocks,
    /// Fits and scores each form of each block.
    FitForms,
    /// Trains a supernet.
    TrainSupernet,
    /// Chooses a set of blocks and fits it as a whole.
    Select,
    /// Fits and measures sets between the input model and the chosen one.
    Front,
    /// Trains the pruned network.
    Train,
    /// Measures accuracy and latency of the result.
    Measure,
    /// Merges the pruned blocks and verifies the merge.
    Verify,
}

impl PruneStage {
    /// Its name.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ScoreInput => "scoring the input model",
            Self::ReadData => "reading data",
            Self::ProfileBlocks => "profiling blocks",
            Self::FitForms => "fitting block forms",
            Self::TrainSupernet => "training the supernet",
            Self::Select => "choosing blocks and fitting the network",
            Self::Front => "measuring the front",
            Self::Train => "training the network",
            Self::Measure => "measuring the result",
            Self::Verify => "merging and verifying",
        }
    }
}

/// The stages of a job in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneStages(Vec<PruneStage>);

impl PruneStages {
    /// The stages that a configuration asks for.
    #[must_use]
    pub fn of(config: &PruneConfig) -> Self {
        use PruneStage as S;
        let mut stages = vec![S::ScoreInput, S::ReadData, S::ProfileBlocks, S::FitForms];
        stages.extend(config.supernet.as_ref().map(|_| S::TrainSupernet));
        if config.until == Some(Stage::Supernet) {
            return Self(stages);
        }
        stages.push(S::Select);
        if config.until == Some(Stage::Search) {
            return Self(stages);
        }
        stages.extend(config.front.map(|_| S::Front));
        stages.extend(config.finetune.as_ref().map(|_| S::Train));
        if config.until != Some(Stage::Train) {
            stages.extend([S::Measure, S::Verify]);
        }
        Self(stages)
    }

    /// Tells the observer that a stage starts. A stage that is not in the list is not told.
    pub fn start(&self, stage: PruneStage, observer: &mut dyn Observer) {
        if let Some(at) = self.0.iter().position(|it| *it == stage) {
            observer.stage(at + 1, self.0.len(), stage.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use updp_trainer::finetune::TrainingConfig;
    use updp_trainer::train::Ramp;

    use super::*;
    use crate::config::{FinetuneConfig, Goal, Method, ShrinkAt, SupernetConfig};

    struct Told(Vec<String>);

    impl Observer for Told {
        fn stage(&mut self, number: usize, total: usize, text: &str) {
            self.0.push(format!("{number}/{total} {text}"));
        }
    }

    #[test]
    fn stages_are_numbered_within_what_the_configuration_asks_for() {
        let mut config = PruneConfig::new(Goal::Count(2));
        let last = |config: &PruneConfig| {
            let mut told = Told(Vec::new());
            let stages = PruneStages::of(config);
            for stage in [PruneStage::TrainSupernet, PruneStage::Train, PruneStage::Verify] {
                stages.start(stage, &mut told);
            }
            told.0
        };
        assert_eq!(last(&config), ["7/7 merging and verifying"]);
        config.supernet = Some(SupernetConfig { epochs: 3, training: TrainingConfig::default() });
        config.finetune = Some(FinetuneConfig {
            epochs: 4,
            method: Method::Fit,
            ramp_speed: None,
            ramp: Ramp::Linear,
            shrink_at: ShrinkAt::Lambda,
            training: TrainingConfig::default(),
        });
        let all =
            ["5/9 training the supernet", "7/9 training the network", "9/9 merging and verifying"];
        assert_eq!(last(&config), all);
        config.front = Some(5);
        assert_eq!(last(&config)[2], "10/10 merging and verifying");
        config.front = None;
        config.until = Some(Stage::Train);
        assert_eq!(last(&config), ["5/7 training the supernet", "7/7 training the network"]);
        config.until = Some(Stage::Supernet);
        assert_eq!(last(&config), ["5/5 training the supernet"]);
    }
}
