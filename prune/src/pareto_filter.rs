//! The Pareto filter: which forms of a block need not be fitted or scored, because another form is no slower and closer.

use std::fmt::Write;

use updp_passes::surgery::Site;

use updp_trainer::fit::FittedForm;

/// A form whose output error is below this part of another's is clearly nearer.
const CLEARLY: f64 = 0.9;

/// A form of this output error leaves little to gain for slower ones.
const NEAR: f64 = 0.05;

/// The forms of a block with their latencies.
pub(crate) struct ParetoFilter<'a> {
    pub(crate) sites: &'a [Site],
    /// In ms, of each site.
    pub(crate) latencies: &'a [f64],
}

impl ParetoFilter<'_> {
    fn latency(&self, site: &Site) -> f64 {
        let at = self.sites.iter().position(|own| own == site);
        at.and_then(|at| self.latencies.get(at)).copied().unwrap_or(f64::INFINITY)
    }

    /// A key that tells apart which form is faster than which: what is left out depends on it.
    pub(crate) fn key(&self, of: &str) -> String {
        let mut order: Vec<usize> = (0..self.latencies.len()).collect();
        order.sort_by(|a, b| self.latencies[*a].total_cmp(&self.latencies[*b]));
        order.into_iter().fold(of.to_owned(), |mut key, at| {
            let _ = write!(key, "-{at}");
            key
        })
    }

    /// Whether no form that was found is at least as fast and already near the block's output.
    pub(crate) fn is_needed(&self, site: &Site, found: &[FittedForm]) -> bool {
        let own = self.latency(site);
        !found.iter().any(|other| other.output_error < NEAR && self.latency(&other.site) <= own)
    }

    /// Without those that another one outdoes.
    pub(crate) fn best(&self, forms: Vec<FittedForm>) -> Vec<FittedForm> {
        let place = |own: &FittedForm| (self.latency(&own.site), own.output_error);
        let all: Vec<(f64, f64)> = forms.iter().map(place).collect();
        let pairs = forms.into_iter().enumerate();
        pairs.filter(|(at, _)| !is_dominated(*at, &all)).map(|(_, own)| own).collect()
    }
}

/// Whether another form is no slower and clearly nearer to the block's output, or near it already; `(latency, output error)`
/// of each.
fn is_dominated(own: usize, all: &[(f64, f64)]) -> bool {
    let (latency, error) = all[own];
    all.iter().enumerate().any(|(at, (other, found))| {
        let order = other.total_cmp(&latency).then(found.total_cmp(&error)).then(at.cmp(&own));
        (*other <= latency && *found < CLEARLY * error) || (order.is_lt() && *found < NEAR)
    })
}

#[cfg(test)]
mod tests {
    use super::is_dominated;

    fn dominated(forms: &[(f64, f64)]) -> Vec<usize> {
        (0..forms.len()).filter(|own| is_dominated(*own, forms)).collect()
    }

    #[test]
    fn a_form_is_dominated_by_one_that_is_no_slower_and_clearly_nearer() {
        // The second is nearer than the third by less than a tenth; nothing is known of the last.
        let forms = [(1.0, 0.50), (2.0, 0.10), (3.0, 0.095), (3.0, 0.2), (2.0, f64::NAN)];
        assert_eq!(dominated(&forms), [3]);
        assert!(dominated(&[(1.0, 0.0)]).is_empty());
        assert!(dominated(&[(1.0, 0.5), (1.0, 0.5)]).is_empty());
    }

    #[test]
    fn behind_one_that_is_near_slower_ones_are_not_scored() {
        assert_eq!(dominated(&[(3.0, 0.01), (1.0, 0.2), (2.0, 0.04)]), [0]);
        assert_eq!(dominated(&[(1.0, 0.04), (1.0, 0.04)]), [1]);
        assert_eq!(dominated(&[(1.0, 0.04), (1.0, 0.01)]), [0]);
    }
}
