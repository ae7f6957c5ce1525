//! The front of a run: its networks for the report, and the file in the work folder from which a later run picks one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use updp_passes::surgery::Form;
use updp_trainer::hash::Fnv;

use crate::candidates::CandidateSet;
use crate::config::{BlockSelection, FormSet, Goal, Picked, PruneConfig};
use crate::context::Context;
use crate::error::{PruneError, Result};
use crate::files;
use crate::latency_table::Comparison;
use crate::outcome::{FrontNetwork, NetworkSpeed, Speed};
use crate::search::sum;
use crate::select::{FittedNetwork, Selection};

/// Name of the file in the folder of a job.
pub(crate) const NAME: &str = "front.json";

/// What the file holds: the JSON of [`Kept`] and its hash.
#[derive(Serialize, Deserialize)]
struct Hashed {
    hash: String,
    front: String,
}

/// Blocks with the forms that were fitted to them.
type Set = Vec<(usize, Form)>;

/// What a later run needs to write a network.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The key of the job.
    job: Value,
    /// The allowed forms, as the command line spells them.
    forms: String,
    is_depth: bool,
    force: bool,
    /// The blocks that might be pruned; `None` = all.
    blocks: Option<Vec<usize>>,
    batch: usize,
    latency_table: Option<PathBuf>,
    /// The set of each network, in the order of their numbers.
    networks: Vec<Vec<(usize, String)>>,
}

/// The networks for the report and their sets, ordered by speed. `speed` is that of the selected set, measured afresh.
/// Points that were not measured are ordered by the sums of the latency table.
pub(crate) fn networks(
    candidates: &CandidateSet,
    selection: &Selection,
    speed: Option<&Speed>,
) -> Vec<(FrontNetwork, Set)> {
    let is_chosen = |network: &FittedNetwork| network.genome == selection.genome;
    let measured = |network: &FittedNetwork| match speed.filter(|_| is_chosen(network)) {
        Some(speed) => Some(NetworkSpeed::from(speed)),
        None => network.speed.as_ref().map(NetworkSpeed::from),
    };
    let whole: f64 = candidates.costs.iter().map(|cost| cost.baseline_ms).sum();
    let place = |network: &FittedNetwork| match measured(network) {
        Some(speed) => speed.speedup,
        None => sum(&candidates.costs, &network.genome).map_or(1.0, |it| whole / it.latency_ms),
    };
    let mut all: Vec<&FittedNetwork> = selection.networks.iter().collect();
    all.sort_by(|a, b| place(a).total_cmp(&place(b)));
    let beats = |other: &FittedNetwork, own: &FittedNetwork| {
        let (Some(fast), Some(slow)) = (measured(other), measured(own)) else { return false };
        let (a, b) = (other.score.degradation(), own.score.degradation());
        fast.speedup >= slow.speedup && a <= b && (fast.speedup > slow.speedup || a < b)
    };
    let numbered = all.iter().enumerate().map(|(at, network)| {
        let named = |(block, form): &(usize, Form)| (*block, form.name().to_owned());
        let told = FrontNetwork {
            number: at + 1,
            is_chosen: is_chosen(network),
            is_beaten: all.iter().any(|other| beats(other, network)),
            speed: measured(network),
            macs_share: network.macs_share,
            score: network.score,
            blocks: network.pruned.iter().map(named).collect(),
        };
        let chosen = candidates.chosen(&network.genome).into_iter();
        (told, chosen.map(|form| (form.site.block, form.site.form)).collect())
    });
    numbered.collect()
}

impl From<&Comparison> for NetworkSpeed {
    fn from(found: &Comparison) -> Self {
        let Comparison { after_ms, speedup, interval, .. } = *found;
        Self { after_ms, speedup, low: interval.low, high: interval.high }
    }
}

impl From<&Speed> for NetworkSpeed {
    fn from(speed: &Speed) -> Self {
        let Speed { after_ms, speedup, low, high, .. } = *speed;
        Self { after_ms, speedup, low, high }
    }
}

/// Keeps the networks in the work folder, if there is one.
///
/// # Errors
/// C0003 when the file cannot be written.
pub(crate) fn keep(cx: &Context<'_>, networks: &[(FrontNetwork, Set)]) -> Result<()> {
    let Some(folder) = cx.checkpoint.folder() else { return Ok(()) };
    let config = cx.config;
    let named = |set: &Set| set.iter().map(|(at, form)| (*at, form.name().to_owned())).collect();
    let kept = Kept {
        job: cx.job.clone(),
        forms: spelled(&config.forms.forms),
        is_depth: config.is_depth(),
        force: config.forms.force,
        blocks: match config.goal.blocks() {
            BlockSelection::All => None,
            BlockSelection::List(list) => Some(list.clone()),
        },
        batch: config.latency.batch,
        latency_table: config.latency.table.clone(),
        networks: networks.iter().map(|(_, set)| named(set)).collect(),
    };
    // A plain struct of numbers and texts always serializes.
    let front = serde_json::to_string(&kept).unwrap_or_default();
    let hashed = Hashed { hash: hash(&front), front };
    let bytes = serde_json::to_vec_pretty(&hashed).unwrap_or_default();
    files::write(&folder.join(NAME), &bytes)
}

/// The configuration of a run that writes a network of the kept front.
///
/// # Errors
/// C0019 when there is no front, C0020 when it has no such network.
pub(crate) fn resolve(cx: &Context<'_>, number: usize) -> Result<PruneConfig> {
    let work = cx.config.work.clone().unwrap_or_default();
    let folder = cx.checkpoint.folder();
    let is_damaged = folder.is_some_and(is_damaged);
    let missing = if is_damaged { "it is damaged" } else { "no front is kept there" };
    let kept = folder
        .and_then(read)
        .ok_or_else(|| PruneError::NoFront { work: work.clone(), detail: missing.to_owned() })?;
    let set = number.checked_sub(1).and_then(|at| kept.networks.get(at));
    let set = set.ok_or(PruneError::NoSuchNetwork { number, count: kept.networks.len() })?;
    let damaged = || PruneError::NoFront { work: work.clone(), detail: "it is damaged".to_owned() };
    let form = |(block, name): &(usize, String)| Some((*block, Form::named(name)?));
    let set = set.iter().map(form).collect::<Option<Set>>().ok_or_else(damaged)?;
    let mut config = cx.config.clone();
    config.goal = Goal::Blocks(kept.blocks.map_or(BlockSelection::All, BlockSelection::List));
    config.picked = Some(Picked { number, set, is_depth: kept.is_depth });
    config.front = None;
    config.forms.forms = form_set(&kept.forms).ok_or_else(damaged)?;
    config.forms.force = kept.force;
    config.latency.batch = kept.batch;
    config.latency.table = config.latency.table.or(kept.latency_table);
    Ok(config)
}

fn read(folder: &Path) -> Option<Kept> {
    let hashed: Hashed = serde_json::from_slice(&std::fs::read(folder.join(NAME)).ok()?).ok()?;
    let is_whole = hash(&hashed.front) == hashed.hash;
    serde_json::from_str(&hashed.front).ok().filter(|_| is_whole)
}

fn hash(front: &str) -> String {
    format!("{:016x}", Fnv::of(front.as_bytes()))
}

/// Whether there is a front that is not the one that was written.
pub(crate) fn is_damaged(folder: &Path) -> bool {
    folder.join(NAME).exists() && read(folder).is_none()
}

/// Refuses a work folder without a front of this job, before anything is created in it. `folder` is the folder of the
/// job, and `job` its key.
///
/// # Errors
/// C0019.
pub(crate) fn refuse_missing(work: &Path, folder: &Path, job: &Value) -> Result<()> {
    if folder.join(NAME).exists() {
        return Ok(());
    }
    let refused = |detail: String| PruneError::NoFront { work: work.to_owned(), detail };
    let Ok(entries) = std::fs::read_dir(work) else {
        return Err(refused("there is no such folder".to_owned()));
    };
    let others = entries.flatten().filter_map(|entry| read(&entry.path()));
    let differences = others.map(|kept| differences(&kept.job, job));
    let nearest = differences.min_by_key(Vec::len);
    Err(refused(match nearest {
        Some(names) => format!("it is of a run with another {}", names.join(", another ")),
        None => "no run with --front has ended there".to_owned(),
    }))
}

/// What distinguishes two jobs, in words.
fn differences(kept: &Value, own: &Value) -> Vec<&'static str> {
    const NAMES: [(&str, &str); 10] = [
        ("program", "version of updp-compile"),
        ("work_version", "version of updp-compile"),
        ("model", "model"),
        ("seed", "--seed"),
        ("calibration", "set of images (--data, --images, --val-split)"),
        ("held_out", "set of images (--data, --images, --val-split)"),
        ("preprocess", "--preprocess"),
        ("shrinks", "--shrink"),
        ("merges_all", "--merge"),
        ("runtime", "runtime, device or number of threads"),
    ];
    let mut names: Vec<&str> = Vec::new();
    for (field, name) in NAMES {
        if kept.get(field) != own.get(field) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A set of forms as the command line spells it.
fn spelled(forms: &FormSet) -> String {
    match forms {
        FormSet::Auto => "auto".to_owned(),
        FormSet::Depth => "depth".to_owned(),
        FormSet::All => "all".to_owned(),
        FormSet::List(list) => list.iter().map(|it| it.name()).collect::<Vec<_>>().join(","),
    }
}

/// The inverse of [`spelled`]; `None` for other texts.
fn form_set(text: &str) -> Option<FormSet> {
    Some(match text {
        "auto" => FormSet::Auto,
        "depth" => FormSet::Depth,
        "all" => FormSet::All,
        list => FormSet::List(list.split(',').map(Form::named).collect::<Option<_>>()?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_of_forms_are_read_back() {
        let list = FormSet::List(vec![Form::Conv, Form::Thin(3)]);
        for set in [FormSet::Auto, FormSet::Depth, FormSet::All, list] {
            assert_eq!(form_set(&spelled(&set)), Some(set));
        }
        assert_eq!(form_set("conv,thicker"), None);
    }

    #[test]
    fn what_differs_is_named_once() {
        let own = json!({ "model": "a", "calibration": 1, "held_out": 2, "seed": 0 });
        let other = json!({ "model": "a", "calibration": 3, "held_out": 4, "seed": 0 });
        assert_eq!(differences(&own, &own), Vec::<&str>::new());
        assert_eq!(differences(&own, &other), ["set of images (--data, --images, --val-split)"]);
    }
}
