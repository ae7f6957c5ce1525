//! Vectors of f32 as arrays, and the choice of the instruction set they are compiled for.
//!
//! Kernels are written once over [`Lanes`] of any width. [`dispatch`] compiles them for AVX-512F (16 lanes), for AVX2
//! with FMA (8) and for any processor (4), and takes the widest that runs here. Every function between [`dispatch`] and
//! a loop must be `#[inline(always)]`: a function that is not inlined is compiled for the oldest processor.
#![expect(
    clippy::inline_always,
    reason = "a function takes the features of the one it is inlined into, and has none itself"
)]

/// `L` numbers that take part in a computation together.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Lanes<const L: usize>(pub [f32; L]);

impl<const L: usize> Lanes<L> {
    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; L])
    }

    /// The first `L` numbers of a slice, which must have at least `L`.
    #[inline(always)]
    pub fn load(from: &[f32]) -> Self {
        let mut own = Self([0.0; L]);
        own.0.copy_from_slice(&from[..L]);
        own
    }

    /// `self + other`.
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        let mut sum = self;
        for lane in 0..L {
            sum.0[lane] += other.0[lane];
        }
        sum
    }

    /// `self − other`.
    #[inline(always)]
    pub fn less(self, other: Self) -> Self {
        let mut rest = self;
        for lane in 0..L {
            rest.0[lane] -= other.0[lane];
        }
        rest
    }

    /// `self + a·b`, rounded once where the processor has a fused instruction.
    #[inline(always)]
    pub fn add_product<const FUSED: bool>(self, a: Self, b: Self) -> Self {
        let mut sum = self;
        for lane in 0..L {
            sum.0[lane] = fma::<FUSED>(a.0[lane], b.0[lane], sum.0[lane]);
        }
        sum
    }

    /// The sum of the lanes; it adds the upper half to the lower half until one number is left.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let mut values = self.0;
        let mut width = L;
        while width > 1 {
            width /= 2;
            for lane in 0..width {
                values[lane] += values[lane + width];
            }
        }
        values[0]
    }
}

/// `a·b + c`, rounded once where the processor has a fused instruction.
#[inline(always)]
pub(super) fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// A computation with vectors.
pub(super) trait Vectored {
    /// Type of the result.
    type Output;

    /// Computes it with vectors of `L` lanes. `FUSED` says that a product and a sum are one instruction. It must be
    /// `#[inline(always)]`.
    fn run<const L: usize, const FUSED: bool>(self) -> Self::Output;
}

/// The vector instructions of this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// 4 lanes; every processor has them.
    Any,
    /// 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest level that runs here.
    pub fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                return if has!("avx512f") { Self::Avx512 } else { Self::Avx2 };
            }
        }
        Self::Any
    }

    /// Every level that runs here.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let others = match Self::here() {
            Self::Any => vec![],
            Self::Avx2 => vec![Self::Avx2],
            Self::Avx512 => vec![Self::Avx2, Self::Avx512],
        };
        #[cfg(not(target_arch = "x86_64"))]
        let others = vec![];
        [vec![Self::Any], others].concat()
    }

    /// Number of lanes of its vectors.
    pub fn lanes(self) -> usize {
        match self {
            Self::Any => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
        }
    }
}

/// Computes at a level; this processor must support it.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the compiler cannot see that the features were asked for")
)]
pub(super) fn dispatch<V: Vectored>(level: Level, call: V) -> V::Output {
    match level {
        // Fused everywhere except on x86, where `mul_add` without FMA is a call for each number.
        Level::Any => call.run::<4, { !cfg!(target_arch = "x86_64") }>(),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => {
            assert!(Level::here() != Level::Any, "no AVX2");
            // SAFETY: the processor has AVX2 and FMA; otherwise the line above would have panicked.
            unsafe { avx2(call) }
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => {
            assert!(Level::here() == Level::Avx512, "no AVX-512F");
            // SAFETY: the processor has AVX-512F, AVX2 and FMA; otherwise the line above would have panicked.
            unsafe { avx512(call) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<V: Vectored>(call: V) -> V::Output {
    call.run::<8, true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<V: Vectored>(call: V) -> V::Output {
    call.run::<16, true>()
}
