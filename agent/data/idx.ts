import { open } from "node:fs/promises";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";

/**
 * IDX, the format of the MNIST family: two zero bytes, element type (8 = unsigned byte), number of dimensions, the
 * dimensions as big-endian 32-bit integers, the data. Read here, as npm has no maintained reader.
 * Source: yann.lecun.com/exdb/mnist, "The IDX file format".
 */
export interface IdxArray {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
  /** Entries of the first dimension that the file has, also those that were not read. */
  readonly fileCount: number;
}

const unsignedByte = 8;

/**
 * Reads at most `countMax` entries of the first dimension.
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID naming the file and what is wrong with it
 */
export async function readIdx(path: string, dimensionCount: number, countMax: number): Promise<IdxArray> {
  const file = await open(path, "r").catch((cause) => {
    throw toRingfoldError(cause, "DATA_INVALID");
  });
  try {
    const headerBytes = 4 + 4 * dimensionCount;
    const header = Buffer.alloc(headerBytes);
    const { bytesRead } = await file.read(header, 0, headerBytes, 0);
    if (bytesRead < 4 || header.readUInt16BE(0) !== 0) throw invalid(path, "it is not an IDX file");
    if (header[2] !== unsignedByte) throw invalid(path, `element type ${header[2]} is not unsigned byte (8)`);
    if (header[3] !== dimensionCount)
      throw invalid(path, `it has ${header[3]} dimensions, expected ${dimensionCount}`);
    if (bytesRead < headerBytes) throw invalid(path, "its header is cut off");
    const shape = Array.from({ length: dimensionCount }, (_, d) => header.readUInt32BE(4 + 4 * d));
    const [count = 0, ...rest] = shape;
    const entryBytes = rest.reduce((product, dimension) => product * dimension, 1);
    const { size } = await file.stat();
    if (size !== headerBytes + count * entryBytes) {
      throw invalid(
        path,
        `${size} bytes, but shape ${shape.join("x")} needs ${headerBytes + count * entryBytes}`,
      );
    }
    const taken = Math.min(count, countMax);
    const data = new Uint8Array(taken * entryBytes);
    await file.read(data, 0, data.byteLength, headerBytes);
    return { shape: [taken, ...rest], data, fileCount: count };
  } catch (cause) {
    throw toRingfoldError(cause, "DATA_INVALID"); // a folder, or a disk that cannot read
  } finally {
    await file.close();
  }
}

const invalid = (path: string, detail: string): RingfoldError =>
  new RingfoldError("DATA_INVALID", `${path}: ${detail}`, { path });
