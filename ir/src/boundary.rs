//! The primitives that change the inputs and outputs of a graph.

use crate::error::IrError;
use crate::graph::{Graph, Vertex};
use crate::id::ValueId;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::type_proto;
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};
use crate::value::Origin;

impl Graph {
    /// Adds a graph input after the others, under a fresh name made from `hint`.
    pub fn add_input(&mut self, hint: &str, ty: &TensorType) -> ValueId {
        let name = self.pool.fresh(hint);
        let info = ty.to_value_info(&name);
        let id = self.insert_value(name, Origin::Input);
        self.value_mut(id).declared = Some(ty.clone());
        self.inputs.push((id, info));
        self.edited = true;
        id
    }

    /// Gives a graph input a default; callers may leave it out from now on.
    ///
    /// # Errors
    /// I0303 when the value is not a graph input without a default, I0305 when the tensor does not have its type or the
    /// IR version is below 4 and has no defaults.
    pub fn set_default(&mut self, value: ValueId, tensor: Tensor) -> Result<(), IrError> {
        let known = self.get_value(value).filter(|known| known.origin == Origin::Input);
        let known = known.ok_or(IrError::StaleId)?;
        let ty = TensorType::fixed(tensor.dtype(), tensor.dims());
        if known.declared.as_ref() != Some(&ty) || self.ir_version < 4 {
            let detail = format!("{ty} cannot be the default of {:?}", known.name);
            return Err(IrError::Broken { number: 1, detail });
        }
        let known = self.value_mut(value);
        known.origin = Origin::Initializer { overridable: true };
        known.tensor = Some(tensor);
        self.push_initializer(value);
        self.edited = true;
        Ok(())
    }

    /// Makes a constant of an input with a default: callers cannot replace the tensor any more.
    ///
    /// # Errors
    /// I0303 when the value is not a graph input with a default.
    pub fn freeze_default(&mut self, value: ValueId) -> Result<(), IrError> {
        let known = self.get_value(value).ok_or(IrError::StaleId)?;
        let is_listed = self.inputs.iter().any(|(id, _)| *id == value);
        if known.origin != (Origin::Initializer { overridable: true }) || !is_listed {
            return Err(IrError::StaleId);
        }
        self.inputs.retain(|(id, _)| *id != value);
        self.value_mut(value).origin = Origin::Initializer { overridable: false };
        self.edited = true;
        Ok(())
    }

    /// Removes a graph input that nothing reads.
    ///
    /// # Errors
    /// I0303 when the value is not a graph input without a default, I0301 while it is still read.
    pub fn remove_input(&mut self, value: ValueId) -> Result<(), IrError> {
        let known = self.get_value(value).ok_or(IrError::StaleId)?;
        if known.origin != Origin::Input {
            return Err(IrError::StaleId);
        }
        if self.is_read(value) {
            return Err(IrError::StillRead { value: known.name.clone() });
        }
        self.inputs.retain(|(id, _)| *id != value);
        self.drop_value(value);
        self.edited = true;
        Ok(())
    }

    /// Adds `value` as one more graph output with this type.
    ///
    /// # Errors
    /// I0303 for a stale handle.
    pub fn add_output(&mut self, value: ValueId, ty: &TensorType) -> Result<(), IrError> {
        let info = ty.to_value_info(&self.get_value(value).ok_or(IrError::StaleId)?.name);
        self.outputs.push((value, info));
        self.value_mut(value).output_uses += 1;
        self.edited = true;
        Ok(())
    }

    /// Forgets the declared types of inner values after an edit changed their shapes. Types of graph inputs
    /// and outputs stay.
    ///
    /// # Errors
    /// I0303 for a stale handle.
    pub fn forget_types(&mut self, values: &[ValueId]) -> Result<(), IrError> {
        let mut names = Vec::new();
        for value in values {
            let known = self.get_value(*value).ok_or(IrError::StaleId)?;
            if known.origin == Origin::Result && known.output_uses == 0 && known.declared.is_some()
            {
                names.push(known.name.clone());
                self.value_mut(*value).declared = None;
            }
        }
        if !names.is_empty() {
            self.header.value_info.retain(|info| !names.iter().any(|name| name == info.name()));
            self.edited = true;
        }
        Ok(())
    }

    /// Fixes the dims of a graph input. If one of them was a symbol, the symbol becomes that number everywhere
    /// in this graph's declarations: a batch of 8 goes in, a batch of 8 comes out.
    ///
    /// # Errors
    /// I0303 when the value is not a graph input, I0305 when it is no tensor or has another rank.
    pub fn set_input_dims(&mut self, value: ValueId, dims: &[usize]) -> Result<(), IrError> {
        let declared = self.get_value(value).ok_or(IrError::StaleId)?.declared.clone();
        let place = self.inputs.iter().position(|(id, _)| *id == value).ok_or(IrError::StaleId)?;
        let fits = declared.as_ref().is_some_and(|ty| ty.rank().is_none_or(|r| r == dims.len()));
        let Some(declared) = declared.filter(|_| fits) else {
            let detail = "the input is no tensor of this rank".to_owned();
            return Err(IrError::Broken { number: 1, detail });
        };
        let symbols: Vec<(String, usize)> = declared
            .shape
            .iter()
            .flatten()
            .zip(dims)
            .filter_map(|(dim, size)| match dim {
                Dim::Symbol(name) => Some((name.to_string(), *size)),
                _ => None,
            })
            .collect();
        self.fix_symbols(&symbols);
        let ty = TensorType::fixed(declared.dtype, dims);
        let mut info = ty.to_value_info(&self.value(value).name);
        info.doc_string.clone_from(&self.inputs[place].1.doc_string);
        info.metadata_props.clone_from(&self.inputs[place].1.metadata_props);
        self.inputs[place].1 = info;
        self.value_mut(value).declared = Some(ty);
        self.edited = true;
        Ok(())
    }

    /// Fixes one dim of a graph input whose size is open; a symbol becomes that number everywhere in this graph's
    /// declarations, unless another dim of the input has the same one: some exporters name all open dims alike. A dim with
    /// a size keeps it. Declared types of inner values are forgotten.
    ///
    /// # Errors
    /// I0303 when the value is not a graph input, I0305 when it has no such dim.
    pub fn fix_input_dim(
        &mut self,
        value: ValueId,
        axis: usize,
        size: usize,
    ) -> Result<(), IrError> {
        let place = self.inputs.iter().position(|(id, _)| *id == value).ok_or(IrError::StaleId)?;
        let mut declared = self.value(value).declared.clone();
        let own = declared.iter().filter_map(|ty| ty.shape.as_ref()).flatten();
        let own: Vec<Dim> = own.cloned().collect();
        let dim = declared.as_mut().and_then(|ty| ty.shape.as_mut()?.get_mut(axis));
        let Some(dim) = dim else {
            let detail = format!("the input has no dim {axis}");
            return Err(IrError::Broken { number: 1, detail });
        };
        match std::mem::replace(dim, Dim::Known(size)) {
            Dim::Known(_) => return Ok(()),
            Dim::Symbol(name) => {
                let symbol = Dim::Symbol(name.clone());
                if own.iter().filter(|dim| **dim == symbol).count() == 1 {
                    self.fix_symbols(&[(name.to_string(), size)]);
                }
            }
            Dim::Unknown => {}
        }
        let inner: Vec<ValueId> =
            self.nodes().into_iter().flat_map(|node| self.results(node)).flatten().collect();
        self.forget_types(&inner)?;
        if let Some(type_proto::Value::TensorType(tensor)) =
            self.inputs[place].1.r#type.as_mut().and_then(|ty| ty.value.as_mut())
            && let Some(dim) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(axis))
        {
            dim.value = Some(dimension::Value::DimValue(size as i64));
        }
        self.value_mut(value).declared = declared;
        self.edited = true;
        Ok(())
    }

    /// Opens axis 0 of a graph input with a fixed size. The axis becomes `symbol` there and on every graph output
    /// that starts with the same size; declared types of inner values are forgotten. Returns the old size.
    ///
    /// The caller must find out whether the nodes in between accept any size.
    ///
    /// # Errors
    /// I0303 when the value is not a graph input, I0305 when its axis 0 has no fixed size.
    pub fn open_axis(&mut self, value: ValueId, symbol: &str) -> Result<usize, IrError> {
        let place = self.inputs.iter().position(|(id, _)| *id == value).ok_or(IrError::StaleId)?;
        let declared = self.value(value).declared.clone();
        let Some((size, mut ty)) = declared.and_then(|ty| Some((ty.known_dim(0)?, ty))) else {
            let detail = "axis 0 of the input has no fixed size".to_owned();
            return Err(IrError::Broken { number: 1, detail });
        };
        ty.shape.iter_mut().flatten().take(1).for_each(|dim| *dim = Dim::from(symbol));
        let inner: Vec<ValueId> =
            self.nodes().into_iter().flat_map(|node| self.results(node)).flatten().collect();
        self.forget_types(&inner)?;
        let outputs: Vec<ValueId> = self.outputs().collect();
        for output in outputs {
            let declared = self.value_mut(output).declared.as_mut();
            if let Some(first) = declared.and_then(|ty| ty.shape.as_mut()?.first_mut())
                && *first == Dim::Known(size)
            {
                *first = Dim::from(symbol);
            }
        }
        let opened = dimension::Value::DimParam(symbol.to_owned());
        let was = dimension::Value::DimValue(size as i64);
        let own = self.inputs.iter_mut().skip(place).take(1).chain(&mut self.outputs);
        for (_, info) in own {
            let Some(type_proto::Value::TensorType(tensor)) =
                info.r#type.as_mut().and_then(|ty| ty.value.as_mut())
            else {
                continue;
            };
            let first = tensor.shape.as_mut().and_then(|shape| shape.dim.first_mut());
            if let Some(first) = first.filter(|dim| dim.value.as_ref() == Some(&was)) {
                first.value = Some(opened.clone());
            }
        }
        self.value_mut(value).declared = Some(ty);
        self.edited = true;
        Ok(size)
    }

    /// Replaces symbols with sizes in all declarations.
    fn fix_symbols(&mut self, symbols: &[(String, usize)]) {
        let size_of = |name: &str| symbols.iter().find(|(known, _)| known == name).map(|(_, n)| *n);
        for vertex in self.vertices.node_weights_mut() {
            let Vertex::Value(value) = vertex else { continue };
            for dim in value.declared.iter_mut().filter_map(|ty| ty.shape.as_mut()).flatten() {
                if let Dim::Symbol(name) = dim
                    && let Some(size) = size_of(name)
                {
                    *dim = Dim::Known(size);
                }
            }
        }
        let boundary = self.inputs.iter_mut().chain(&mut self.outputs).map(|(_, info)| info);
        for info in boundary.chain(&mut self.header.value_info) {
            let Some(type_proto::Value::TensorType(tensor)) =
                info.r#type.as_mut().and_then(|ty| ty.value.as_mut())
            else {
                continue;
            };
            for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
                if let Some(dimension::Value::DimParam(name)) = &dim.value
                    && let Some(size) = size_of(name)
                {
                    dim.value = Some(dimension::Value::DimValue(size as i64));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::builder::ModelBuilder;
    use crate::dtype::DataType;
    use crate::node::Node;
    use crate::tensor::Tensor;
    use crate::types::Dim;
    use crate::value::Origin;

    #[test]
    fn a_frozen_default_is_a_constant_and_no_input() {
        let mut builder = ModelBuilder::new(17);
        builder.input("x", DataType::Float, &[Dim::Known(1)]);
        builder.input("w", DataType::Float, &[Dim::Known(1)]);
        builder.node(Node::new("Mul"), &["x", "w"], &["y"]);
        builder.output("y", DataType::Float, None);
        let mut model = builder.build().expect("well formed");
        let graph = &mut model.graph;
        let (x, w) = (graph.find("x").expect("x"), graph.find("w").expect("w"));
        graph.freeze_default(w).expect_err("it has no default");
        let one = Tensor::from_f32(vec![1], &[1.0]).expect("one");
        graph.set_default(w, one).expect("of its type");
        assert_eq!(graph.value(w).origin(), Origin::Initializer { overridable: true });
        graph.freeze_default(w).expect("it has a default");
        assert_eq!(graph.value(w).origin(), Origin::Initializer { overridable: false });
        assert_eq!(graph.inputs().collect::<Vec<_>>(), [x]);
        graph.freeze_default(w).expect_err("it is a constant already");
    }
}
