"""The operations of TensorFlow that a SavedModel may hold: arithmetic, and no files.

What exports hold is in the table, and the plain arithmetic that another model may need.
Words with a colon are its headings.
"""

_TABLE = """
values: Const Empty Fill Identity IdentityN NoOp OnesLike Placeholder StopGradient
    PreventGradient ZerosLike EnsureShape Bitcast Cast Bucketize
variables: VarHandleOp VarIsInitializedOp ReadVariableOp AssignVariableOp
    DisableCopyOnRead VariableShape ResourceGather ResourceGatherNd
functions: PartitionedCall StatefulPartitionedCall If StatelessIf Case StatelessCase
    While StatelessWhile For Switch Merge Enter Exit NextIteration LoopCond
arithmetic: Abs Add AddN AddV2 Ceil ClipByValue Cumprod Cumsum Div DivNoNan Exp Expm1
    Floor FloorDiv FloorMod Inv Log Log1p Maximum Minimum Mod Mul MulNoNan Neg Pow
    RealDiv Reciprocal Rint Round Rsqrt Sign Sqrt Square SquaredDifference Sub
    TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
angles: Acos Acosh Asin Asinh Atan Atan2 Atanh Cos Cosh Sin Sinh Tan Tanh
activations: Elu Erf Erfc Erfinv LeakyRelu LogSoftmax Relu Relu6 Selu Sigmoid Softmax
    Softplus Softsign
comparisons: ApproximateEqual Equal Greater GreaterEqual IsFinite IsInf IsNan Less
    LessEqual LogicalAnd LogicalNot LogicalOr LogicalXor NotEqual Select SelectV2 Where
bits: BitwiseAnd BitwiseOr BitwiseXor Invert LeftShift RightShift
sums: All Any ArgMax ArgMin Bincount BiasAdd L2Loss Max Mean Min Prod SegmentMax
    SegmentMean SegmentMin SegmentProd SegmentSum Sum UnsortedSegmentMax
    UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
products: BatchMatMul BatchMatMulV2 BatchMatMulV3 Conv2D Conv3D Cross
    DepthwiseConv2dNative Einsum MatMul
pooling: AvgPool FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 LRN MaxPool MaxPoolV2
shapes: BatchToSpaceND BroadcastArgs BroadcastGradientArgs BroadcastTo ConcatOffset
    ConcatV2 DepthToSpace Diag DiagPart ExpandDims ExtractImagePatches
    InvertPermutation LinSpace MatrixBandPart MatrixDiagPartV3 MatrixDiagV3 MirrorPad
    OneHot Pack Pad PadV2 Range Rank Reshape Reverse ReverseV2 Roll Shape ShapeN Size
    Slice SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice Tile Transpose
    Unpack
choices: DynamicPartition DynamicStitch Gather GatherNd GatherV2 InTopKV2
    ParallelDynamicStitch ScatterNd SearchSorted LowerBound UpperBound
    TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub
    TensorScatterUpdate TensorStridedSliceUpdate TopK TopKV2 Unique UniqueV2
lists: EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListPopBack
    TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2
    TensorListSetItem TensorListSplit TensorListStack
rounding: Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantizeV4 QuantizeV2
images: AdjustContrastv2 CropAndResize DecodeAndCropJpeg DecodeBmp DecodeGif DecodeImage
    DecodeJpeg DecodePng DecodeWebP ExtractJpegShape ResizeArea ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate
texts: DecodeBase64 DecodePaddedRaw DecodeRaw StringJoin StringLength Substr
checks: Assert
"""
OPERATIONS = frozenset(word for word in _TABLE.split() if not word.endswith(":"))
# Each SavedModel has functions with these, by which a session would write and read its
# variables. `tf.saved_model.load` calls none of them.
SAVER_OPERATIONS = frozenset(
    {
        "MergeV2Checkpoints",
        "RestoreV2",
        "SaveV2",
        "ShardedFilename",
        "StaticRegexFullMatch",
    }
)
