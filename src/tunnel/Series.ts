/**
 * A metric's series, found once. Effect looks a series up at each update, by its name and attributes; where a request makes seven updates, that is a fiftieth
 * of its time. What is bound here adds to the same series as everybody else's updates do, and is at zero from the start.
 */
import { Context, Metric } from "effect"

/**
 * The hooks of `metric` in the registry of `context`. Not for one made by `Metric.mapInput`, whose function they do not call. They do not reach a series that
 * is removed from the registry and made again.
 */
export const bind = <Input, State>(
  metric: Metric.Metric<Input, State>,
  context: Context.Context<never>
): Metric.Metric.Hooks<Input, State> => {
  const registry = Context.get(context, Metric.MetricRegistry)
  // How a registry names a series is its own affair: one that holds nothing else tells.
  const alone: typeof registry = new Map()
  metric.valueUnsafe(Context.add(context, Metric.MetricRegistry, alone))
  for (const [name, series] of alone) {
    const known = registry.get(name)
    if (known !== undefined) return known.hooks
    registry.set(name, series)
    return series.hooks
  }
  throw new Error(`The metric ${metric.id} has no series of its own`)
}
