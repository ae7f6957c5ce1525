//! Sums over stretches of numbers. Within a stretch, four vectors are summed lane by lane and then added. The order
//! depends only on the length and the width of vectors.

#![expect(clippy::inline_always, reason = "see `lanes`")]

use super::lanes::{Lanes, Vectored, fma};

/// Σ x and Σ (x − centre)², or with a second operand Σ g and Σ g·(x − centre); the terms decide which.
pub(super) struct Summed<'a, F> {
    /// x.
    pub x: &'a [f32],
    /// g, with the same length; x itself where g is not used.
    pub g: &'a [f32],
    /// The terms of the sums.
    pub terms: F,
}

/// Two terms of a pair of numbers.
pub(super) trait Terms: Copy {
    /// Both sums with the terms of x and g added. It must be `#[inline(always)]`.
    fn add<const L: usize, const FUSED: bool>(
        self,
        sums: [Lanes<L>; 2],
        x: Lanes<L>,
        g: Lanes<L>,
    ) -> [Lanes<L>; 2];
}

/// Number of vectors that are summed side by side.
const WIDE: usize = 4;

impl<F: Terms> Vectored for Summed<'_, F> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) -> [f64; 2] {
        let Self { x, g, terms } = self;
        let g = &g[..x.len()];
        let mut own = [[Lanes::<L>::splat(0.0); 2]; WIDE];
        let whole = x.len() / (WIDE * L) * (WIDE * L);
        for (x, g) in x.chunks_exact(WIDE * L).zip(g.chunks_exact(WIDE * L)) {
            for at in 0..WIDE {
                let (x, g) = (Lanes::load(&x[at * L..]), Lanes::load(&g[at * L..]));
                own[at] = terms.add::<L, FUSED>(own[at], x, g);
            }
        }
        let mut sums = [0.0; 2];
        for own in own {
            sums = [sums[0] + f64::from(own[0].sum()), sums[1] + f64::from(own[1].sum())];
        }
        for (x, g) in x[whole..].iter().zip(&g[whole..]) {
            let none = [Lanes::<1>::splat(0.0); 2];
            let [a, b] = terms.add::<1, FUSED>(none, Lanes::splat(*x), Lanes::splat(*g));
            sums = [sums[0] + f64::from(a.0[0]), sums[1] + f64::from(b.0[0])];
        }
        sums
    }
}

/// x and (x − centre)².
#[derive(Clone, Copy, Debug)]
pub(super) struct Squares(pub f32);

impl Terms for Squares {
    #[inline(always)]
    fn add<const L: usize, const FUSED: bool>(
        self,
        sums: [Lanes<L>; 2],
        x: Lanes<L>,
        _: Lanes<L>,
    ) -> [Lanes<L>; 2] {
        let apart = x.less(Lanes::splat(self.0));
        [sums[0].plus(x), sums[1].add_product::<FUSED>(apart, apart)]
    }
}

/// g and g·(x − centre).
#[derive(Clone, Copy, Debug)]
pub(super) struct Along(pub f32);

impl Terms for Along {
    #[inline(always)]
    fn add<const L: usize, const FUSED: bool>(
        self,
        sums: [Lanes<L>; 2],
        x: Lanes<L>,
        g: Lanes<L>,
    ) -> [Lanes<L>; 2] {
        let apart = x.less(Lanes::splat(self.0));
        [sums[0].plus(g), sums[1].add_product::<FUSED>(g, apart)]
    }
}

/// `a·g + b·(x − centre) + c`, in one pass.
pub(super) struct Combined<'a> {
    pub x: &'a [f32],
    pub g: &'a [f32],
    pub centre: f32,
    /// a, b, c.
    pub factors: [f32; 3],
    pub result: &'a mut [f32],
}

impl Vectored for Combined<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const L: usize, const FUSED: bool>(self) {
        let Self { x, g, centre, factors: [a, b, c], result } = self;
        let (x, g) = (&x[..result.len()], &g[..result.len()]);
        for at in 0..result.len() {
            result[at] = fma::<FUSED>(a, g[at], fma::<FUSED>(b, x[at] - centre, c));
        }
    }
}
