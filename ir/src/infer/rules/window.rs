//! Convolutions, pools and other operators over `[N, C, spatial…]`.

use super::{Outcome, Site, known, map_dim, one, same_dim};
use crate::dtype::DataType;
use crate::geometry::AutoPad;
use crate::types::Dim;

/// Outcome of a windowed or spatial operator; `None` for others.
pub(super) fn rule(site: &Site<'_>) -> Option<Vec<Outcome>> {
    match site.node.op_type() {
        "Conv" | "FusedConv" => one(site.dtype(0), conv(site, 1)),
        "ConvInteger" => one(Some(DataType::Int32), conv(site, 1)),
        "QLinearConv" => one(site.dtype(7).or(site.dtype(0)), conv(site, 3)),
        "ConvTranspose" => one(site.dtype(0), conv_transpose(site)),
        "AveragePool" | "LpPool" => one(site.dtype(0), pool(site)),
        "MaxPool" => {
            let shape = pool(site);
            let indices = Outcome::new(Some(DataType::Int64), shape.clone());
            Some(vec![Outcome::new(site.dtype(0), shape), indices])
        }
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => one(site.dtype(0), global(site)),
        "Crop" => one(site.dtype(0), crop(site)),
        "MaxRoiPool" | "RoiAlign" => one(site.dtype(0), regions(site)),
        "GridSample" => one(site.dtype(0), grid(site)),
        "DepthToSpace" | "SpaceToDepth" => one(site.dtype(0), blocks(site)),
        "Resize" | "Upsample" => one(site.dtype(0), resize(site)),
        _ => None,
    }
}

/// Strides, dilations, pads and rounding of one operator over `rank` spatial axes.
struct Window<'a> {
    strides: Option<&'a [i64]>,
    dilations: Option<&'a [i64]>,
    pads: Option<&'a [i64]>,
    auto_pad: AutoPad,
    is_ceil: bool,
    rank: usize,
}

impl<'a> Window<'a> {
    fn of(site: &Site<'a>, rank: usize) -> Option<Self> {
        let list = |name: &str, len: usize| match site.node.ints(name) {
            None => Some(None),
            Some(list) if list.len() == len && list.iter().all(|v| *v >= 0) => Some(Some(list)),
            Some(_) => None,
        };
        let auto_pad = AutoPad::of(site.node)?;
        Some(Self {
            strides: list("strides", rank)?,
            dilations: list("dilations", rank)?,
            pads: list("pads", 2 * rank)?,
            auto_pad,
            is_ceil: site.int("ceil_mode", 0)? != 0,
            rank,
        })
    }

    fn at(list: Option<&[i64]>, axis: usize, default: usize) -> Option<usize> {
        list.map_or(Some(default), |list| usize::try_from(*list.get(axis)?).ok())
    }

    fn stride(&self, axis: usize) -> Option<usize> {
        Self::at(self.strides, axis, 1).filter(|stride| *stride > 0)
    }

    /// Size of the dilated kernel.
    fn extent(&self, axis: usize, kernel: usize) -> Option<usize> {
        let dilation = Self::at(self.dilations, axis, 1).filter(|dilation| *dilation > 0)?;
        kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)
    }

    fn pad_pair(&self, axis: usize) -> Option<(usize, usize)> {
        Some((Self::at(self.pads, axis, 0)?, Self::at(self.pads, axis + self.rank, 0)?))
    }

    /// Size after sliding a kernel over `dim`.
    fn slide(&self, axis: usize, dim: &Dim, kernel: Option<usize>) -> Option<Dim> {
        let stride = self.stride(axis)?;
        if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            if stride == 1 {
                return Some(dim.clone());
            }
            return Some(map_dim(dim, |size| Some(size.div_ceil(stride))));
        }
        let extent = self.extent(axis, kernel?)?;
        let (before, after) = match self.auto_pad {
            AutoPad::Valid => (0, 0),
            _ => self.pad_pair(axis)?,
        };
        let pad = before.checked_add(after)?;
        if stride == 1 && pad == extent - 1 {
            return Some(dim.clone());
        }
        Some(map_dim(dim, |size| {
            let room = size.checked_add(pad)?.checked_sub(extent)?;
            let floor = room / stride + 1;
            if !self.is_ceil || room.is_multiple_of(stride) {
                return Some(floor);
            }
            // Runtimes differ on a last window that starts in the padding.
            let ceil = floor + 1;
            (floor.checked_mul(stride)? < size.checked_add(before)?).then_some(ceil)
        }))
    }

    /// The size that a window with this stride would reduce to `dim`.
    fn spread(&self, axis: usize, dim: &Dim, kernel: Option<usize>, extra: usize) -> Option<Dim> {
        let stride = self.stride(axis)?;
        if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            if stride == 1 {
                return Some(dim.clone());
            }
            return Some(map_dim(dim, |size| size.checked_mul(stride)));
        }
        let extent = self.extent(axis, kernel?)?;
        let (before, after) = match self.auto_pad {
            AutoPad::Valid => (0, 0),
            _ => self.pad_pair(axis)?,
        };
        let pad = before.checked_add(after)?;
        let gain = extent.checked_add(extra)?;
        if stride == 1 && gain.checked_sub(1) == Some(pad) {
            return Some(dim.clone());
        }
        Some(map_dim(dim, |size| {
            let steps = size.checked_sub(1)?.checked_mul(stride)?;
            steps.checked_add(gain)?.checked_sub(pad)
        }))
    }
}

/// Kernel size along one spatial axis: from the weight, otherwise from `kernel_shape`.
fn kernel(site: &Site<'_>, weight: Option<&[Dim]>, axis: usize) -> Option<usize> {
    weight
        .and_then(|dims| dims.get(axis + 2)?.known())
        .or_else(|| usize::try_from(*site.node.ints("kernel_shape")?.get(axis)?).ok())
}

/// Rank of the input: its own rank, or the rank of the weight.
fn input_dims(site: &Site<'_>, weight: Option<&[Dim]>) -> Option<Vec<Dim>> {
    let dims = match site.shape(0) {
        Some(dims) => dims.to_vec(),
        None => vec![Dim::Unknown; weight?.len()],
    };
    (dims.len() >= 2).then_some(dims)
}

/// `X [N, C, …]`, `W [M, C/g, …]` → `[N, M, …]`.
fn conv(site: &Site<'_>, weight_slot: usize) -> Option<Vec<Dim>> {
    let weight = site.shape(weight_slot);
    let dims = input_dims(site, weight)?;
    let window = Window::of(site, dims.len() - 2);
    let mut out =
        vec![dims[0].clone(), weight.and_then(|w| w.first().cloned()).unwrap_or(Dim::Unknown)];
    for (axis, dim) in dims[2..].iter().enumerate() {
        let size = window.as_ref().and_then(|w| w.slide(axis, dim, kernel(site, weight, axis)));
        out.push(size.unwrap_or(Dim::Unknown));
    }
    Some(out)
}

/// `X [N, C, …]`, `W [C, M/g, …]` → `[N, M, …]`.
fn conv_transpose(site: &Site<'_>) -> Option<Vec<Dim>> {
    let weight = site.shape(1);
    let dims = input_dims(site, weight)?;
    let window = Window::of(site, dims.len() - 2);
    let group = site.int("group", 1).and_then(|group| usize::try_from(group).ok());
    let channels =
        weight.and_then(|w| w.get(1)?.known()).and_then(|per_group| per_group.checked_mul(group?));
    let mut out = vec![dims[0].clone(), known(channels)];
    for (axis, dim) in dims[2..].iter().enumerate() {
        let size = match site.node.ints("output_shape") {
            // Written for the spatial axes; some exporters write it for all axes.
            Some(list) if !list.is_empty() => {
                let place = axis + list.len().saturating_sub(dims.len() - 2);
                list.get(place).and_then(|v| usize::try_from(*v).ok()).map(Dim::Known)
            }
            _ => {
                let extra = Window::at(site.node.ints("output_padding"), axis, 0);
                window
                    .as_ref()
                    .and_then(|w| w.spread(axis, dim, kernel(site, weight, axis), extra?))
            }
        };
        out.push(size.unwrap_or(Dim::Unknown));
    }
    Some(out)
}

fn pool(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0).filter(|dims| dims.len() >= 2)?;
    let window = Window::of(site, dims.len() - 2);
    let mut out = dims[..2].to_vec();
    for (axis, dim) in dims[2..].iter().enumerate() {
        let size = window.as_ref().and_then(|w| w.slide(axis, dim, kernel(site, None, axis)));
        out.push(size.unwrap_or(Dim::Unknown));
    }
    Some(out)
}

fn global(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0).filter(|dims| dims.len() >= 2)?;
    Some(
        dims.iter()
            .enumerate()
            .map(|(at, d)| if at < 2 { d.clone() } else { Dim::Known(1) })
            .collect(),
    )
}

/// `X [N, C, H, W]` without `border` = left, top, right, bottom; `scale` gives the height and width to keep.
fn crop(site: &Site<'_>) -> Option<Vec<Dim>> {
    let [n, c, h, w] = site.shape(0)? else { return None };
    let [left, top, right, bottom] = *site.node.ints("border")? else { return None };
    let less = |dim: &Dim, first: i64, last: i64| {
        map_dim(dim, |size| {
            let rest = i64::try_from(size).ok()?.checked_sub(first)?.checked_sub(last)?;
            usize::try_from(rest).ok()
        })
    };
    let (height, width) = match site.node.ints("scale") {
        Some([height, width]) => {
            let size = |size: &i64| known(usize::try_from(*size).ok());
            (size(height), size(width))
        }
        _ => (less(h, top, bottom), less(w, left, right)),
    };
    Some(vec![n.clone(), c.clone(), height, width])
}

/// `X [N, C, H, W]`, rois `[R, …]` → `[R, C, h, w]`.
fn regions(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0).filter(|dims| dims.len() == 4)?;
    let count = site.shape(1).and_then(|rois| rois.first().cloned()).unwrap_or(Dim::Unknown);
    let size = |name: &str, axis: usize| {
        let size = if site.node.is("MaxRoiPool") {
            site.node.ints("pooled_shape").and_then(|shape| shape.get(axis).copied())
        } else {
            site.int(name, 1)
        };
        known(size.and_then(|size| usize::try_from(size).ok()))
    };
    Some(vec![count, dims[1].clone(), size("output_height", 0), size("output_width", 1)])
}

/// `X [N, C, …]`, grid `[N, out…, r]` → `[N, C, out…]`.
fn grid(site: &Site<'_>) -> Option<Vec<Dim>> {
    let (dims, grid) = (site.shape(0)?, site.shape(1)?);
    if dims.len() < 3 || grid.len() != dims.len() {
        return None;
    }
    let mut out = vec![same_dim(&dims[0], &grid[0]), dims[1].clone()];
    out.extend(grid[1..grid.len() - 1].iter().cloned());
    Some(out)
}

fn blocks(site: &Site<'_>) -> Option<Vec<Dim>> {
    let [n, c, h, w] = site.shape(0)? else { return None };
    let block = usize::try_from(site.node.int("blocksize")?).ok().filter(|block| *block > 0)?;
    let area = block.checked_mul(block)?;
    let divide =
        |dim: &Dim, by: usize| map_dim(dim, |size| size.is_multiple_of(by).then_some(size / by));
    let scale = |dim: &Dim, by: usize| map_dim(dim, |size| size.checked_mul(by));
    Some(if site.node.is("DepthToSpace") {
        vec![n.clone(), divide(c, area), scale(h, block), scale(w, block)]
    } else {
        vec![n.clone(), scale(c, area), divide(h, block), divide(w, block)]
    })
}

fn resize(site: &Site<'_>) -> Option<Vec<Dim>> {
    let dims = site.shape(0)?;
    let axes = match site.node.ints("axes") {
        Some(axes) if site.node.is("Resize") => axes
            .iter()
            .map(|axis| crate::infer::attributes::axis(*axis, dims.len()))
            .collect::<Option<Vec<usize>>>()?,
        _ => (0..dims.len()).collect(),
    };
    let mut out: Vec<Dim> = dims.to_vec();
    for axis in &axes {
        out[*axis] = Dim::Unknown;
    }
    let is_stretch =
        site.node.string("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch");
    let has_sizes = site.node.is("Resize") && site.opset >= 11 && site.has(3);
    if !is_stretch {
        return Some(out);
    }
    if has_sizes {
        let sizes = site.entries(3).filter(|sizes| sizes.len() == axes.len());
        for (axis, size) in axes.iter().zip(sizes.unwrap_or_default()) {
            out[*axis] = size.to_dim();
        }
        return Some(out);
    }
    let scales: Option<Vec<f64>> = match site.node.floats("scales") {
        Some(scales) if site.opset < 9 => Some(scales.iter().map(|s| f64::from(*s)).collect()),
        _ => {
            let slot = if site.node.is("Resize") && site.opset >= 11 { 2 } else { 1 };
            site.operand(slot)
                .tensor
                .filter(|t| t.len() <= super::MAX_RANK)
                .and_then(crate::tensor::Tensor::to_f64)
        }
    };
    let scales = scales.filter(|scales| scales.len() == axes.len()).unwrap_or_default();
    for (axis, scale) in axes.iter().zip(scales) {
        // Runtimes multiply in f32.
        let scale = scale as f32;
        out[*axis] = if scale.to_bits() == 1.0_f32.to_bits() {
            dims[*axis].clone()
        } else {
            map_dim(&dims[*axis], |size| {
                let size = (size as f32 * scale).floor();
                (0.0..2_f32.powi(40)).contains(&size).then_some(size as usize)
            })
        };
    }
    Some(out)
}
