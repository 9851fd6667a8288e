'use strict';
const slider = document.getElementById('slider');
if (slider) {
  const steps = JSON.parse(slider.dataset.steps), said = document.getElementById('said'), line = document.getElementById('line');
  const n = Number(slider.dataset.n), whole = (v) => v.toLocaleString('en');
  const pairs = [...document.querySelectorAll('[data-s]')].map((e) => [e, Number(e.dataset.s)]);
  const show = () => {
    const [eps, gone, x] = steps[Number(slider.value)];
    const text = `eps ${eps} (similarity of at least ${(1 - eps).toFixed(4).replace(/0+$/, '').replace(/\.$/, '')}): ${whole(gone)} of ${whole(n)} images ${slider.dataset.verb}, ${whole(n - gone)} ${slider.dataset.verb.startsWith('are') ? 'are' : 'do'} not.`;
    said.textContent = slider.dataset.command ? `${text} To make it so: ${slider.dataset.command} --eps ${eps}` : text;
    slider.setAttribute('aria-valuetext', text);
    if (line) { line.setAttribute('x1', x); line.setAttribute('x2', x); }
    for (const [e, s] of pairs) e.classList.toggle('stays', s < 1 - eps - 6e-7);
  };
  slider.closest('.control').hidden = false;
  slider.addEventListener('input', show);
  show();
}
