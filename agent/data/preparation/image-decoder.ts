import type { Sharp } from "sharp";
import { RingfoldError } from "../../../protocol/errors.ts";

/** 100 megapixels: more is a bomb, or no picture to learn from. */
const pixelsMax = 100_000_000;

/** @throws RingfoldError DATA_INVALID for a file that is no picture; ENGINE_UNAVAILABLE where the decoder does not run */
export async function imageSize(path: string): Promise<{ height: number; width: number }> {
  const image = await open(path);
  const { height, width } = await image.metadata().catch((cause: unknown) => {
    throw broken(path, cause);
  });
  return { height, width };
}

/**
 * The pixels of a picture, row after row, channels beside each other.
 * @param to without `resize` the picture must have this size
 */
export async function decodeImage(
  path: string,
  to: { readonly height: number; readonly width: number; readonly channels: 1 | 3; readonly resize: boolean },
): Promise<Uint8Array> {
  const { height, width, channels } = to;
  if (!to.resize) {
    const size = await imageSize(path);
    if (size.height !== height || size.width !== width) {
      throw new RingfoldError(
        "DATA_INVALID",
        `${path}: it is ${size.height}x${size.width}, and others are ${height}x${width}`,
        {
          path,
          remedy: "Say which size they are to have: `size: {height, width}` in the pipeline.",
        },
      );
    }
  }
  try {
    const image = (await open(path)).resize({ height, width, fit: "fill" }).flatten();
    const coloured = channels === 1 ? image.greyscale() : image.toColourspace("srgb");
    return await coloured.raw().toBuffer();
  } catch (cause) {
    throw cause instanceof RingfoldError ? cause : broken(path, cause);
  }
}

async function open(path: string): Promise<Sharp> {
  const { default: sharp } = await import("sharp").catch((cause: unknown) => {
    throw new RingfoldError(
      "ENGINE_UNAVAILABLE",
      "the decoder of images (sharp) does not run on this machine",
      { remedy: "Run `npm install` anew, or add the data on another machine." },
      { cause },
    );
  });
  return sharp(path, { failOn: "error", limitInputPixels: pixelsMax });
}

const broken = (path: string, cause: unknown): RingfoldError =>
  new RingfoldError("DATA_INVALID", `${path}: it cannot be read as a picture`, { path }, { cause });
