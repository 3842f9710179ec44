import { composedOperations } from "./composed-operations.ts";
import { activator, type Runtime, type Tf } from "./runtime.ts";

/** A backend of TF.js as it is, with nothing of our own in it. It must be up. */
export function composedRuntime(tf: Tf, about: Pick<Runtime, "name" | "gpu" | "detail">): Runtime {
  const activate = activator(tf, about.name);
  return {
    ...about,
    tf,
    operations: composedOperations(tf),
    activate,
    write: assignedWrite(tf),
    read: joinedRead(tf, activate),
  };
}

/** Reads by joining all tensors on the device first: one transfer, one wait. */
function joinedRead(tf: Tf, activate: () => void): Runtime["read"] {
  return async (parts) => {
    if (parts.length === 0) return;
    // On another backend, concat would drag the tensors over to it.
    activate();
    const joined = tf.tidy(() => tf.concat(parts.map(({ tensor }) => tf.reshape(tensor, [-1]))));
    try {
      const values = await joined.data();
      let offset = 0;
      for (const { tensor, into } of parts) {
        into.set(values.subarray(offset, offset + tensor.size) as Float32Array);
        offset += tensor.size;
      }
    } finally {
      joined.dispose();
    }
  };
}

/** Writes by making a tensor and moving the variable to it. */
function assignedWrite(tf: Tf): Runtime["write"] {
  return (variable, values) => {
    // TF.js may keep the array that it is given, and the caller goes on using it.
    const fresh = tf.tensor(values.slice(), variable.shape);
    variable.assign(fresh);
    fresh.dispose();
  };
}
