//! Statistics of inserted BatchNormalizations, estimated by running the pruned network.

use indexmap::IndexMap;
use updp_exec::{ModelSource, Optimizer, RuntimeOptions};
use updp_ir::{Model, Tensor};
use updp_passes::surgery::{self, Expansion, Statistics};

use crate::context::encode;
use crate::error::{PruneError, Result};

/// Estimates mean and variance of every inserted BatchNormalization over the batches that `batches` returns for the pruned
/// network and for the batch that it fixes.
///
/// # Errors
/// C0016 when no batch fits or a value is not finite; errors of running the network.
pub(crate) fn calibrate(
    model: &mut Model,
    expansion: &Expansion,
    runtime: &RuntimeOptions,
    batches: impl FnOnce(&Model, Option<usize>) -> Result<Vec<IndexMap<String, Tensor>>>,
) -> Result<()> {
    let mut network = model.clone();
    surgery::drop_baseline(&mut network)?;
    let names = surgery::calibration_model(&mut network, &expansion.norms)?;
    let bytes = encode(&network)?;
    let mut executor = runtime.open(ModelSource::Bytes(&bytes), Optimizer::Off)?;
    let fixed =
        network.graph.required_inputs().next().and_then(|input| {
            network.graph.value(input).declared()?.shape.as_ref()?.first()?.known()
        });
    let mut sums: Vec<Sums> = vec![Sums::default(); names.len()];
    for batch in batches(&network, fixed)? {
        let rows = batch.values().next().and_then(|t| t.dims().first().copied()).unwrap_or(0);
        // A network with a fixed batch cannot process the remaining rows.
        if fixed.is_some_and(|size| size != rows) {
            continue;
        }
        let outputs = executor.run(&batch)?;
        for (sum, (mean, variance)) in sums.iter_mut().zip(&names) {
            sum.add(&outputs, mean, variance, rows as f64)?;
        }
    }
    if sums.iter().any(|sum| sum.rows == 0.0) {
        return Err(PruneError::Calibration { name: "the data".into() });
    }
    let statistics: Vec<Statistics> = sums.iter().map(Sums::finish).collect();
    surgery::set_statistics(model, &expansion.norms, &statistics)?;
    Ok(())
}

/// Sums of first and second moments, weighted by their numbers of rows.
#[derive(Clone, Debug, Default)]
struct Sums {
    mean: Vec<f64>,
    square: Vec<f64>,
    rows: f64,
}

impl Sums {
    fn add(
        &mut self,
        outputs: &IndexMap<String, Tensor>,
        mean: &str,
        variance: &str,
        rows: f64,
    ) -> Result<()> {
        let read = |name: &str| {
            let values = outputs.get(name).and_then(Tensor::to_f64);
            let finite = values.filter(|values| values.iter().all(|v| v.is_finite()));
            finite.ok_or_else(|| PruneError::Calibration { name: name.to_owned() })
        };
        let (mean, variance) = (read(mean)?, read(variance)?);
        self.mean.resize(mean.len(), 0.0);
        self.square.resize(mean.len(), 0.0);
        for (at, (m, v)) in mean.iter().zip(&variance).enumerate() {
            self.mean[at] += rows * m;
            self.square[at] += rows * (v + m * m);
        }
        self.rows += rows;
        Ok(())
    }

    fn finish(&self) -> Statistics {
        let mean: Vec<f64> = self.mean.iter().map(|sum| sum / self.rows).collect();
        let square = self.square.iter().map(|sum| sum / self.rows);
        let variance = square.zip(&mean).map(|(square, mean)| (square - mean * mean).max(0.0));
        Statistics { variance: variance.collect(), mean }
    }
}
