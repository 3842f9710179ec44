import { preSharedKey } from "@libp2p/pnet";

/** A stream cipher of xsalsa20: 64 bytes in a WebAssembly memory that all ciphers of the process share. */
interface Cipher {
  update(input: Uint8Array, output?: Uint8Array): Uint8Array;
  finalize(): void;
}

/** What @libp2p/pnet makes of a connection. */
interface ProtectedStream {
  inboundXor: Cipher;
  outboundXor: Cipher;
  addEventListener(type: "close", listener: () => void, options: { readonly once: true }): void;
}

/** A tenth of the shared memory as it begins. */
const chunkBytes = 64 * 1024;

/**
 * The protector of @libp2p/pnet with bounds that its ciphers lack. A message that did not fit in their memory made it grow, which
 * took every other cipher's view of it away, so that each grew it again at its next message; after 64 MB the process ended
 * ("WebAssembly.Memory.grow(): Maximum memory size exceeded"). And two ciphers a connection were never given back.
 * Source: libp2p/js-libp2p pull request 3585, which is in no release yet; with it, this goes.
 */
export function protectSwarm(swarmKey: string): ReturnType<typeof preSharedKey> {
  const open = preSharedKey({ psk: new TextEncoder().encode(swarmKey) });
  return () => {
    const protector = open();
    const protect = protector.protect.bind(protector);
    protector.protect = async (...parameters) => {
      const connection = await protect(...parameters);
      const stream = connection as unknown as ProtectedStream;
      const inbound = new BoundedCipher(stream.inboundXor);
      const outbound = new BoundedCipher(stream.outboundXor);
      stream.inboundXor = inbound;
      stream.outboundXor = outbound;
      stream.addEventListener(
        "close",
        () => {
          inbound.finalize();
          outbound.finalize();
        },
        { once: true },
      );
      return connection;
    };
    return protector;
  };
}

class BoundedCipher implements Cipher {
  readonly #cipher: Cipher;
  #isOver = false;

  constructor(cipher: Cipher) {
    this.#cipher = cipher;
  }

  update(input: Uint8Array): Uint8Array {
    if (this.#isOver) return new Uint8Array(0); // what still lay in a socket that has closed
    const output = new Uint8Array(input.length);
    for (let start = 0; start < input.length; start += chunkBytes) {
      const end = start + chunkBytes;
      this.#cipher.update(input.subarray(start, end), output.subarray(start, end));
    }
    return output;
  }

  finalize(): void {
    if (this.#isOver) return; // its place may be another one's by now
    this.#isOver = true;
    this.#cipher.finalize();
  }
}
