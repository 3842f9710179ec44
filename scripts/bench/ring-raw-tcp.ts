import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";

const writeBytes = 1 << 18;
const readBytes = 1 << 17;

/**
 * The limit of any ring on this machine: the same bytes over the same pattern of sockets, one way, with nothing done to
 * them but to keep them, for the caller to check. Reading into one aligned buffer and copying is faster than reading
 * into the large array itself: that is at odds with the alignment of the kernel's pages most of the time.
 */
export class RawTcp {
  readonly #server: net.Server;
  #downstream: Promise<Socket>;
  #upstream: Socket | undefined;
  #into: Uint8Array = new Uint8Array(0);
  #filled = 0;
  #whenFull: () => void = () => {};

  static async listen(): Promise<RawTcp> {
    const raw = new RawTcp();
    raw.#server.listen(0, "127.0.0.1");
    await once(raw.#server, "listening");
    return raw;
  }

  private constructor() {
    this.#server = net.createServer({ noDelay: true });
    this.#downstream = once(this.#server, "connection").then(([socket]) => socket as Socket);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async dial(port: number): Promise<void> {
    this.#upstream = net.connect({
      host: "127.0.0.1",
      port,
      onread: {
        buffer: Buffer.alloc(readBytes),
        callback: (bytes, buffer) => {
          this.#into.set(buffer.subarray(0, bytes), this.#filled);
          this.#filled += bytes;
          if (this.#filled === this.#into.length) this.#whenFull();
          return true;
        },
      },
    });
    await once(this.#upstream, "connect");
    (await this.#downstream).resume();
  }

  /** Where the next transfer arrives; set it on every rank before any of them starts. */
  expect(into: Uint8Array): void {
    this.#into = into;
    this.#filled = 0;
  }

  /** Sends `bytes` once and receives as many as expected; resolves when both are done. */
  async transfer(bytes: Uint8Array): Promise<void> {
    const socket = await this.#downstream;
    const full = new Promise<void>((resolve) => {
      this.#whenFull = resolve;
      if (this.#filled === this.#into.length) resolve();
    });
    const sent = new Promise<void>((resolve, reject) => {
      const next = (start: number): void => {
        if (start >= bytes.length) return resolve();
        socket.write(bytes.subarray(start, start + writeBytes), (error) =>
          error ? reject(error) : next(start + writeBytes),
        );
      };
      next(0);
    });
    await Promise.all([full, sent]);
  }

  async close(): Promise<void> {
    this.#upstream?.destroy();
    (await this.#downstream).destroy();
    this.#server.close();
  }
}
