//! Compressed weights on a device that is not the CPU, decoded to bf16 by `burn` operations.
//!
//! A decoded matrix lives for one product. What is kept are the codes and one f32 for every 64 of them.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::host::compressed::{BLOCK, Codes, Compressed, NF4};

/// Codes and scales of one matrix.
#[derive(Clone, Debug)]
pub(crate) struct DeviceBlocks {
    dims: [usize; 2],
    /// `[out, blocks, 1]`.
    scales: Tensor<3>,
    /// Signed bytes `[out, blocks * 64]`, or bytes of two codes `[out, blocks * 32]`.
    codes: Tensor<2, Int>,
    /// What the sixteen codes stand for, where there are two in a byte.
    values: Option<Tensor<1>>,
}

impl DeviceBlocks {
    /// Copies compressed weights to a device.
    ///
    /// # Panics
    /// If they are bf16, which a tensor holds by itself.
    pub(crate) fn upload(weights: &Compressed, device: &Device) -> Self {
        let (dims, stride) = (weights.dims(), weights.stride());
        let upload = |scales: &[f32]| {
            let shape = [dims[0], stride / BLOCK, 1];
            Tensor::from_data(TensorData::new(scales.to_vec(), shape), device)
        };
        let (codes, values, scales) = match weights.codes() {
            Codes::Bf16(_) => unreachable!("bf16 weights are kept as a tensor"),
            Codes::Int8 { codes, scales } => {
                let data = TensorData::new(codes.clone(), [dims[0], stride]);
                let codes = Tensor::from_data(data, (device, DType::I8));
                (codes, None, upload(scales))
            }
            Codes::Nf4 { codes, scales } => {
                let data = TensorData::new(codes.clone(), [dims[0], stride / 2]);
                let codes = Tensor::from_data(data, (device, DType::U8));
                let values = Tensor::from_data(TensorData::new(NF4.to_vec(), [16]), device);
                (codes, Some(values), upload(scales))
            }
        };
        Self {
            dims,
            scales,
            codes,
            values,
        }
    }

    pub(crate) fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// The weights in bf16.
    pub(crate) fn decode(&self) -> Tensor<2> {
        let ([rows, columns], blocks) = (self.dims, self.scales.dims()[1]);
        let shares: Tensor<2> = match &self.values {
            None => self.codes.clone().float(),
            Some(values) => {
                let codes = self.codes.clone().cast(DType::I32);
                let low = codes.clone().bitwise_and_scalar(15);
                let high = codes.bitwise_right_shift_scalar(4);
                let codes = Tensor::cat(vec![low, high], 1).reshape([rows * blocks * BLOCK]);
                values
                    .clone()
                    .select(0, codes)
                    .reshape([rows, blocks * BLOCK])
            }
        };
        (shares.reshape([rows, blocks, BLOCK]) * self.scales.clone())
            .cast(DType::BF16)
            .reshape([rows, blocks * BLOCK])
            .narrow(1, 0, columns)
    }
}
