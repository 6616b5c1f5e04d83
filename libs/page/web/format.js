// Numbers and times for people. Energy is in whole microjoules until it is written.

/** `1,234.567890`: joules to the microjoule, of an integer. */
export function exactJoules(microjoules) {
  const sign = microjoules < 0 ? '-' : '';
  const absolute = Math.abs(microjoules);
  // The remainder is exact; dividing first would round.
  const rest = absolute % 1e6;
  return `${sign}${thousands((absolute - rest) / 1e6)}.${String(rest).padStart(6, '0')}`;
}

/** Joules for a table. */
export function joules(microjoules) {
  return fixed(microjoules / 1e6, 3);
}

/** Watts, with as many digits as one can take in. */
export function watts(value) {
  return fixed(value, value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** Watts of an axis whose labels are `step` apart, with as many digits as that has. */
export function axisWatts(value, step) {
  const decimals = Number(step.toPrecision(3)).toString().split('.')[1] ?? '';
  return `${fixed(value, Math.min(decimals.length, 6))} W`;
}

export function percent(part) {
  return `${fixed(100 * part, 1)} %`;
}

/** A whole number with separators. */
export function thousands(whole) {
  return String(whole).replace(/\B(?=(\d{3})+$)/g, ',');
}

function fixed(value, digits) {
  const [whole, decimals] = value.toFixed(digits).split('.');
  return decimals ? `${thousands(whole)}.${decimals}` : thousands(whole);
}

/** A length of time, in seconds. */
export function duration(seconds) {
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  if (hours < 48) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const two = (number) => String(number).padStart(2, '0');

/** Makes times, in seconds of the chart, into words. `step` is how far apart they are that are shown. */
export function clock(isRelative) {
  if (isRelative) {
    return (seconds, step) => `${seconds.toFixed(step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3)} s`;
  }
  return (seconds, step) => {
    const time = new Date(seconds * 1000);
    const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
    if (step >= 86400) return day;
    const minute = `${two(time.getHours())}:${two(time.getMinutes())}`;
    if (step >= 60) return minute;
    const second = `${minute}:${two(time.getSeconds())}`;
    return step >= 1 ? second : `${second}.${String(time.getMilliseconds()).padStart(3, '0')}`;
  };
}

/** A span for people: its begin and end, with the day where that is needed. */
export function spanOf(from, to, isRelative) {
  const time = clock(isRelative);
  const step = to - from < 10 ? 0.001 : to - from > 86400 ? 60 : isRelative ? 0.1 : 1;
  if (isRelative) return `${time(from, step)} to ${time(to, step)}`;
  const [first, last] = [time(from, 86400), time(to, 86400)];
  return `${first} ${time(from, step)} to ${first === last ? '' : `${last} `}${time(to, step)}`;
}
