// Which colour stands for whom. The rows of most energy over the whole time have one of their own, which they
// keep whatever span is selected.

const isDark = () => matchMedia('(prefers-color-scheme: dark)').matches;

/** A value of the style sheet, for a canvas. */
export const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Neighbours in the stack differ in hue and in lightness.
function hue(index) {
  const lightness = (isDark() ? [0.72, 0.6, 0.8] : [0.68, 0.56, 0.77])[index % 3];
  return `oklch(${lightness} 0.13 ${(255 + index * 137.5) % 360})`;
}

/** The colours of layers, by key: the top ones in order, of which the last layer is the first. */
export function colourLayers(layers) {
  const grey = ['idle', 'unattributed', 'other', 'irq', 'rest'];
  const colours = new Map(grey.map((key) => [key, styled(`--${key}`)]));
  layers.filter(({ key }) => !colours.has(key)).reverse()
    .forEach(({ key }, index) => colours.set(key, hue(index)));
  return colours;
}
