import { createServer, type Server, type Socket } from "node:net";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { type FromScript, fromScriptSchema, type ToScript } from "./script-messages.ts";

/** The agent's end of the socket to one script. It never has many messages on their way: more of them are none of ours. */
export class ScriptChannel {
  readonly #server: Server;
  #socket: Socket | undefined;
  #pending: Buffer = Buffer.alloc(0);
  readonly #arrived: FromScript[] = [];
  #waiting: PromiseWithResolvers<FromScript> | undefined;
  #failure: RingfoldError | undefined;

  /** Listens at `path`; only the first who connects is heard. */
  static async listen(path: string): Promise<ScriptChannel> {
    const channel = new ScriptChannel();
    await new Promise<void>((resolve, reject) => {
      channel.#server.once("error", reject).listen(path, resolve);
    });
    return channel;
  }

  private constructor() {
    this.#server = createServer((socket) => {
      this.#server.close();
      if (this.#socket || this.#failure) return void socket.destroy();
      this.#socket = socket;
      socket.on("data", (bytes) => this.#take(bytes));
      socket.on("error", () => {}); // the process's end says why
    });
  }

  send(message: ToScript): void {
    const text = Buffer.from(JSON.stringify(message));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    this.#socket?.write(Buffer.concat([length, text]));
  }

  /** The next message, however long it takes. @throws RingfoldError what `fail` was told */
  receive(): Promise<FromScript> {
    const message = this.#arrived.shift();
    if (message) return Promise.resolve(message);
    if (this.#failure) return Promise.reject(this.#failure);
    this.#waiting ??= Promise.withResolvers<FromScript>();
    return this.#waiting.promise;
  }

  /** Nothing will come any more; whoever waits hears why. */
  fail(error: RingfoldError): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
    this.#server.close();
    this.#socket?.destroy();
  }

  #take(bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    try {
      for (;;) {
        if (this.#pending.length < 4) return;
        const length = this.#pending.readUInt32LE(0);
        if (length > limits.scriptMessageBytes) throw new Error(`a message of ${length} bytes`);
        if (this.#pending.length < 4 + length) return;
        const text = this.#pending.toString("utf8", 4, 4 + length);
        this.#pending = this.#pending.subarray(4 + length);
        this.#deliver(fromScriptSchema.parse(JSON.parse(text)));
      }
    } catch (cause) {
      const message = "the script's end of the socket sends what is no message";
      this.fail(new RingfoldError("SCRIPT_FAILED", message, {}, { cause }));
    }
  }

  #deliver(message: FromScript): void {
    if (this.#waiting) {
      this.#waiting.resolve(message);
      this.#waiting = undefined;
    } else if (this.#arrived.length < messagesMax) this.#arrived.push(message);
    else throw new Error("it does not wait for its turn");
  }
}

/** The steps that a script may run ahead, or the buckets of one; a last message, and `failed` after that. */
const messagesMax = Math.max(limits.scriptStepsAhead, limits.bucketsMax) + 4;
