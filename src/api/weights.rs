//! Weights that are also inputs of the graph. From IR 4 on a caller may feed another tensor for such a weight, so exact
//! compilation leaves it as it is, and neither pruning nor training changes it.

use updp_ir::{Model, Origin, ValueId};

use super::{Error, Observer, near};

/// Which of the weights that are also inputs become constants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FreezeWeights {
    /// None: a caller may still replace each of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those with these names.
    Named(Vec<String>),
}

/// The weights of a model that a caller may replace.
fn replaceable(model: &Model) -> Vec<ValueId> {
    let graph = &model.graph;
    let is_replaceable =
        |id: &ValueId| graph.value(*id).origin() == Origin::Initializer { overridable: true };
    graph.inputs().filter(is_replaceable).collect()
}

/// Number of weights that a caller may replace.
#[must_use]
pub fn overridable_weights(model: &Model) -> usize {
    replaceable(model).len()
}

/// Makes constants of the chosen weights and takes them off the inputs. Returns their number.
///
/// # Errors
/// C0001 if the model has no weight of a given name.
pub fn freeze_weights(chosen: &FreezeWeights, model: &mut Model) -> Result<usize, Error> {
    let all = replaceable(model);
    let chosen = match chosen {
        FreezeWeights::None => Vec::new(),
        FreezeWeights::All => all,
        FreezeWeights::Named(names) => {
            for name in names {
                refuse_unknown(name, model)?;
            }
            let is_named =
                |id: &ValueId| names.iter().any(|it| it == model.graph.value(*id).name());
            all.into_iter().filter(is_named).collect()
        }
    };
    for weight in &chosen {
        model.graph.freeze_default(*weight)?;
    }
    Ok(chosen.len())
}

fn refuse_unknown(name: &str, model: &Model) -> Result<(), Error> {
    let graph = &model.graph;
    let names: Vec<&str> = graph.initializers().map(|id| graph.value(id).name()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let near = match near::matches(name, names.into_iter()).as_slice() {
        [] => String::new(),
        near => format!("; near: {}", near.join(", ")),
    };
    Err(Error::Usage {
        detail: format!(
            "--freeze-weights: the model has no weight {name:?}; a weight is an initializer, and not a node{near}"
        ),
    })
}

/// What users hear about weights that a caller may replace; `None` if there are none.
#[must_use]
pub fn overridable_notice(count: usize) -> Option<String> {
    let (what, them) = match count {
        0 => return None,
        1 => ("1 weight is also an input of the model".to_owned(), "it"),
        count => (format!("{count} weights are also inputs of the model"), "them"),
    };
    Some(format!(
        "{what}: a caller may replace {them}, and nothing is folded into {them}; --freeze-weights makes constants of such weights"
    ))
}

/// Tells the observer of a job that needs constant weights.
pub(crate) fn tell_overridable(model: &Model, observer: &mut dyn Observer) {
    if let Some(notice) = overridable_notice(overridable_weights(model)) {
        observer.message(&format!("warning: {notice}"));
    }
}
