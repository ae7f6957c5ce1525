//! The Pareto filter. It finds the forms of a block that need no fit or score because another form is no slower and
//! more accurate.

use std::fmt::Write;

use updp_passes::surgery::Site;

use updp_trainer::fit::FittedForm;

/// An output error below this fraction of another form's error is clearly smaller.
const CLEARLY: f64 = 0.9;

/// With an output error this small, slower forms have little to gain.
const NEAR: f64 = 0.05;

/// The forms of a block with their latencies.
pub(crate) struct ParetoFilter<'a> {
    pub(crate) sites: &'a [Site],
    /// Latency of each site, in ms.
    pub(crate) latencies: &'a [f64],
}

impl ParetoFilter<'_> {
    fn latency(&self, site: &Site) -> f64 {
        let at = self.sites.iter().position(|own| own == site);
        at.and_then(|at| self.latencies.get(at)).copied().unwrap_or(f64::INFINITY)
    }

    /// A key that identifies the order of the forms by latency. The filter depends on this order.
    pub(crate) fn key(&self, of: &str) -> String {
        let mut order: Vec<usize> = (0..self.latencies.len()).collect();
        order.sort_by(|a, b| self.latencies[*a].total_cmp(&self.latencies[*b]));
        order.into_iter().fold(of.to_owned(), |mut key, at| {
            let _ = write!(key, "-{at}");
            key
        })
    }

    /// Whether the form is still needed: no form found so far is at least as fast and already close to the block's
    /// output.
    pub(crate) fn is_needed(&self, site: &Site, found: &[FittedForm]) -> bool {
        let own = self.latency(site);
        !found.iter().any(|other| other.output_error < NEAR && self.latency(&other.site) <= own)
    }

    /// The forms without those that another form dominates.
    pub(crate) fn best(&self, forms: Vec<FittedForm>) -> Vec<FittedForm> {
        let place = |own: &FittedForm| (self.latency(&own.site), own.output_error);
        let all: Vec<(f64, f64)> = forms.iter().map(place).collect();
        let pairs = forms.into_iter().enumerate();
        pairs.filter(|(at, _)| !is_dominated(*at, &all)).map(|(_, own)| own).collect()
    }
}

/// Whether another form is no slower and either clearly closer to the block's output or close to it already. `all`
/// holds `(latency, output error)` of each form.
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
        // The error of the second form is less than a tenth below that of the third. The error of the last form is
        // unknown.
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
