import type { ComponentChildren } from "preact";

interface PanelProps {
  readonly id: string;
  readonly title: string;
  /** Beside the title: counts and states in words. */
  readonly summary?: ComponentChildren;
  readonly children: ComponentChildren;
}

/** The frame of a panel: a landmark with its heading. */
export const Panel = ({ id, title, summary, children }: PanelProps) => (
  <section class="panel" id={id} aria-labelledby={`${id}-title`}>
    <header class="panel-header">
      <h2 id={`${id}-title`}>{title}</h2>
      {summary ? <p class="panel-summary">{summary}</p> : null}
    </header>
    {children}
  </section>
);

/** What a panel says when it has nothing: what is missing, and the command that changes that. */
export const Empty = ({ children, command }: { children: ComponentChildren; command?: string }) => (
  <p class="empty">
    {children}
    {command ? (
      <>
        {" "}
        Run <code>{command}</code>
      </>
    ) : null}
  </p>
);

interface ScrollProps {
  readonly label: string;
  /** Half as high, for tables inside a job. */
  readonly short?: boolean;
  readonly children: ComponentChildren;
}

/** A list that may be longer than its share of the page. Reachable by keyboard, or else nobody without a mouse sees its end. */
export const Scroll = ({ label, short = false, children }: ScrollProps) => (
  // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
  <section class={short ? "scroll short" : "scroll"} tabIndex={0} aria-label={label}>
    {children}
  </section>
);
